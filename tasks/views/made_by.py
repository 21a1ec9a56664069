"""Who made the rows of a recipe: the configuration file and the day of the last run, which people know better."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aai.workspace import RECIPE, Workspace
from tasks.runtime.run import Run


@dataclass(frozen=True)
class Maker:
    """The last run under a recipe."""

    config: str
    """Its configuration file, an absolute path."""
    started_at: str
    """ISO 8601 in UTC."""

    @property
    def file(self) -> str:
        """The name of the file without its folder."""
        return Path(self.config).name


def makers(workspace: Workspace) -> dict[str, Maker]:
    """The last run under each recipe whose configuration file is known.

    Raises:
        Transient: the store failed.
    """
    rows = workspace.table("runs").read([RECIPE, "started_at", "config"]).to_pylist()
    rows.sort(key=lambda row: row["started_at"])
    return {row[RECIPE]: Maker(row["config"], row["started_at"]) for row in rows if row["config"]}


def explain_stale(run: Run, stale: Mapping[str, Iterable[str]]) -> list[str]:
    """A sentence for each configuration file that made stale rows.

    Args:
        run: the run whose plan shows them.
        stale: by stage, the recipes of its stale rows.

    Raises:
        Transient: the store failed.
    """
    known = makers(run.workspace)
    stages: dict[str, list[str]] = {}
    last: dict[str, str] = {}
    for stage, recipes in stale.items():
        for maker in (known[recipe] for recipe in recipes if recipe in known):
            if stage not in stages.setdefault(maker.config, []):
                stages[maker.config].append(stage)
            last[maker.config] = max(last.get(maker.config, ""), maker.started_at)
    return [_sentence(run, config, names, last[config][:10]) for config, names in sorted(stages.items())]


def _sentence(run: Run, config: str, stages: list[str], day: str) -> str:
    of = f"stale rows of {', '.join(stages)} are of"
    if config == run.file:
        return f"{of} earlier options of {config} (last used on {day}): `aai bank prune --generations` lists them"
    return f"{of} another configuration, {config} (last run on {day}), which still finds them done"
