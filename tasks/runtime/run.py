"""A run: a configuration, its workspace, and the recipes that follow from the one for the other.

Nothing here loads a model or starts Ray, so that a plan can be made in no time.
"""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pyarrow as pa

from aai.align.captions import everyday_sounds
from aai.errors import BadConfig
from aai.identity import recipe_of
from aai.models.revisions import pin
from aai.options import Options
from aai.profiles import ModelName
from aai.workspace import Workspace
from tasks.runtime.config import Config
from tasks.runtime.driver import Progress, Stage, StageSummary, run_stage
from tasks.runtime.tables import Source
from tasks.runtime.work import Worker

Watch = Callable[[str], Progress]
"""Makes, for a stage, whoever is told of its progress."""


@dataclass(frozen=True)
class Recipe:
    """A computation with a name: what its results depend on."""

    stage: str
    options: dict[str, Any]
    models: dict[str, str]
    upstream: dict[str, str]
    code_version: int

    @cached_property
    def name(self) -> str:
        """The digest of it all."""
        return recipe_of(self.stage, self.options, self.models, self.upstream, self.code_version)


@dataclass(frozen=True)
class _Plan:
    """What goes into a table or artifact."""

    stage: str
    options: Callable[[Config], Options | dict[str, Any]]
    models: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    code_version: int = 1


def _align_models(config: Config) -> tuple[str, ...]:
    return ("aligner",) if config.align.method == "trained" else ("audio", "image_text")


def _learn_models(config: Config) -> tuple[str, ...]:
    return ("mapper",) if config.learn.method == "shipped" else ("diffusion",)


def _cue_upstream(config: Config) -> tuple[str, ...]:
    return ("neighbours", "mapper") if config.fit.method in ("adapter", "mapper") else ("neighbours",)


def _learn_upstream(config: Config) -> tuple[str, ...]:
    return () if config.learn.method == "shipped" else ("neighbours",)


_NO_OPTIONS: Callable[[Config], dict[str, Any]] = lambda config: {}  # noqa: E731

PLANS: dict[str, _Plan] = {
    "clips": _Plan("ingest_audio", lambda config: config.ingest.audio),
    "images": _Plan("ingest_images", lambda config: config.ingest.images),
    "audio_vectors": _Plan("embed_audio", _NO_OPTIONS, ("audio",), ("clips",)),
    "image_vectors": _Plan("embed_images", _NO_OPTIONS, ("image_text",), ("images",)),
    "index": _Plan("index", lambda config: config.index, (), ("image_vectors",)),
    "aligned_vectors": _Plan("align", lambda config: config.align, (), ("audio_vectors",)),
    "neighbours": _Plan("retrieve", lambda config: config.retrieve, (), ("aligned_vectors", "index")),
    "mapper": _Plan("learn", lambda config: config.learn),
    "cues": _Plan("fit", lambda config: config.fit, ("diffusion",), ("neighbours", "mapper")),
    "renders": _Plan("render", _NO_OPTIONS, ("diffusion",), ("cues",)),
    "scores": _Plan("score", lambda config: config.score, ("image_text",), ("renders", "aligned_vectors")),
}
"""Every table and artifact that a run makes, in order: its stage and what its recipe is made of."""

_UNCHANGING = {"batch_size", "clips_at_once"}
"""Options that change how fast a result is there, not the result."""


@dataclass
class Run:
    """A configuration at work on its workspace."""

    config: Config
    workspace: Workspace
    watch: Watch | None = None
    stop: Event = field(default_factory=Event)
    """Set from another thread, it ends the stage at work; what is finished is committed."""

    def __getstate__(self) -> dict[str, Any]:
        """What workers elsewhere get: who watches and who stops a run is the driver's affair."""
        return self.__dict__ | {"watch": None, "stop": None}

    def recipe(self, name: str) -> str:
        """The recipe of a table or artifact under this configuration.

        Raises:
            BadConfig: a model that it needs is not named rightly.
        """
        return self.recipes[name].name

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The recipes of all tables and artifacts."""
        made: dict[str, Recipe] = {}
        for name, plan in PLANS.items():
            models, upstream = plan.models, plan.upstream
            if name == "aligned_vectors":
                models = _align_models(self.config)
            if name == "mapper":
                models, upstream = _learn_models(self.config), _learn_upstream(self.config)
            if name == "cues":
                upstream = _cue_upstream(self.config)
            if name == "scores" and self.config.models.judge:
                models = (*models, "judge")
            made[name] = Recipe(
                plan.stage,
                self._options(name, plan),
                {role: self.model_pin(role) for role in models},
                {above: made[above].name for above in upstream},
                plan.code_version,
            )
        return made

    def _options(self, name: str, plan: _Plan) -> dict[str, Any]:
        given = plan.options(self.config)
        options = given.model_dump() if isinstance(given, Options) else dict(given)
        options = {key: value for key, value in options.items() if key not in _UNCHANGING}
        if name == "aligned_vectors" and not options["labels"]:
            options["labels"] = list(everyday_sounds()) if self.config.align.method == "labels" else []
        if name in ("mapper", "cues", "renders"):
            options["seed"] = self.config.seed
        return json.loads(json.dumps(options))

    def model_pin(self, role: str) -> str:
        """A model's name with its revision; of a folder the digest of its files.

        Raises:
            BadConfig: the configuration names none for the role, or names it wrongly.
        """
        name, revision = self.pinned(role)
        return f"{name}@{revision}"

    def pinned(self, role: str) -> tuple[str, str]:
        """A model's name and its revision, as tables name them.

        Raises:
            BadConfig: the configuration names none for the role, or names it wrongly.
        """
        return _pinned(role, getattr(self.config.models, role))

    def drive(
        self, table: str, source: Source, make_worker: Callable[[], Worker], sink: str | None = None
    ) -> StageSummary:
        """Run the stage that makes a table, from a source of items, and write down what it was and did.

        Raises:
            BadConfig: too many items were rejected, or the pool cannot start.
            Transient: the store failed, or a slice failed too often.
        """
        name = PLANS[table].stage
        self.register(table)
        stage = Stage(name, source, sink or table, self.recipe(table), make_worker)
        progress = self.watch(name) if self.watch else None
        started_at = datetime.now(UTC)
        done = run_stage(self.workspace, stage, self.config.pool_of(name), self.config.run, progress, self.stop)
        if done.new or done.rejected:
            self.record(table, started_at, done)
        return done

    def register(self, table: str) -> None:
        """Write down what a recipe stands for, once."""
        recipe = self.recipes[table]
        row = {
            "stage": recipe.stage,
            "options": json.dumps(recipe.options, sort_keys=True),
            "models": json.dumps(recipe.models, sort_keys=True),
            "upstream": json.dumps(recipe.upstream, sort_keys=True),
            "code_version": recipe.code_version,
        }
        self._append("recipes", recipe.name, row)

    def record(self, table: str, started_at: datetime, done: StageSummary) -> None:
        """Write down what a run of a stage did."""
        row = {
            "run_id": uuid4().hex,
            "stage": done.stage,
            "started_at": started_at.isoformat(timespec="seconds"),
            "took_s": done.took_s,
            "new": done.new,
            "rejected": done.rejected,
            "stopped": done.stopped,
            "host": socket.gethostname(),
        }
        self._append("runs", self.recipe(table), row)

    def _append(self, name: str, recipe: str, row: dict[str, Any]) -> None:
        table = self.workspace.table(name)
        table.append(recipe, pa.Table.from_pylist([row], schema=table.schema.columns))

    def make_artifact(self, name: str, version: int, make: Callable[[Path], int]) -> StageSummary:
        """Publish one version of an artifact, which `make` writes into the folder it gets, and write down what it did.

        `make` says of how many items it was made; is the version there already, nothing is done.
        """
        recipe, started_at, start_s = self.recipe(name), datetime.now(UTC), time.monotonic()
        artifact = self.workspace.artifact(name, recipe, version)
        if artifact.exists():
            return StageSummary(PLANS[name].stage, recipe, done=1, new=0, rejected=0, took_s=0.0, rate=0.0)
        self.register(name)
        with artifact.publish() as folder:
            num = make(folder)
        took_s = time.monotonic() - start_s
        done = StageSummary(PLANS[name].stage, recipe, done=0, new=num, rejected=0, took_s=took_s, rate=num / took_s)
        self.record(name, started_at, done)
        return done


def open_run(config: Config, watch: Watch | None = None) -> Run:
    """A run on the workspace that the configuration names.

    Raises:
        BadConfig: no workspace can be there.
    """
    return Run(config, Workspace(config.workspace), watch)


def rates(run: Run) -> dict[str, float]:
    """Items per second in the last run of each stage."""
    rows = run.workspace.table("runs").read(["stage", "started_at", "took_s", "new", "rejected"]).to_pylist()
    rows.sort(key=lambda row: row["started_at"])
    return {row["stage"]: (row["new"] + row["rejected"]) / row["took_s"] for row in rows if row["took_s"] > 0}


def _pinned(role: str, model: ModelName | str | None) -> tuple[str, str]:
    if model is None:
        raise BadConfig(f"models.{role}: none is named: name a folder, or choose another method")
    if isinstance(model, str):
        model = ModelName(name=model)
    try:
        return pin(model.name, model.revision)
    except BadConfig as error:
        raise BadConfig(f"models.{role}: {error}") from error
