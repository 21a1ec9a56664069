"""The declaration of a stage.

A stage is one module: a worker, and one `Stage` at its end. Recipes, the plan, the order of a build, the sections of
the configuration, the keys of `pools`, resources and the report's totals follow from it. `tasks/stages.py` lists all.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import pyarrow as pa

from aai.options import Options
from aai.workspace import SCHEMAS, Query, Schema, Workspace
from tasks.runtime.config import Config
from tasks.runtime.work import Worker

if TYPE_CHECKING:
    from tasks.runtime.driver import StageSummary
    from tasks.runtime.run import Run

AnyOptions = TypeVar("AnyOptions", bound=Options)

Names = tuple[str, ...]

Note = Callable[[Counter[str]], str]
"""The counts of a run to a sentence on what it left out; an empty one if there is nothing to say."""


@dataclass(frozen=True)
class Context:
    """What a worker is made from. It is sent to the worker's process."""

    config: Config
    workspace: Workspace
    recipes: Mapping[str, str]
    """The recipe of each table and artifact."""
    revisions: Mapping[str, tuple[str, str]]
    """Name and revision of each model, by its role in `models`."""

    def options(self, kind: type[AnyOptions]) -> AnyOptions:
        """The section of the configuration with these options."""
        return self.config.options(kind)

    def query(self) -> Query:
        """SQL over the run's tables."""
        return self.workspace.query(self.recipes)


@dataclass(frozen=True)
class Pending:
    """The items of a stage, and the rows of those that are still to be processed."""

    total: int
    """All items upstream."""
    num: int
    """Those with neither a row nor a reject."""
    rejected: int
    """Those that were rejected and have no row; none where these are pending again."""
    rows: Iterable[pa.Table]
    """What workers get of the pending ones: tables of any size with a row per item."""


class Source(Protocol):
    """Where the items of a stage come from."""

    def pending(self, retry_rejects: bool = False) -> Pending:
        """What is to be processed; with `retry_rejects` the rejected items, too."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step from tables to a table or an artifact."""

    name: str
    """Its name in the log, in `pools` and in Prefect."""

    table: str
    """The table it writes, whose first key column is the item's id; or the artifact."""

    also: Names = ()
    """Further tables it writes under the same recipe; their rows are committed before those of `table`."""

    rows: str = ""
    """SQL for the rows that workers get, the item's id among them; see `aai.workspace.query`."""

    extend: "Callable[[Query, Path, Iterable[pa.Table]], Iterator[pa.Table]] | None" = None
    """Adds columns to the stream of rows; it gets a connection of its own, and a folder for temporary files."""

    items: str = ""
    """SQL for the ids alone, where that is less work than `rows`; the same items in both."""

    worker: Callable[[Context], Worker] | None = None
    """Makes the worker where it will run."""

    make: "Callable[[Run], StageSummary] | None" = None
    """Does the stage in the driver instead, as for an artifact."""

    reads: Names | Callable[[Config], Names] = ()
    """Upstream tables and artifacts that its results depend on; the first gives the items."""

    options: type[Options] | None = None
    """Its options."""

    section: str = ""
    """Where they stand in the configuration; by default under the stage's name."""

    settings: Callable[[Config], Mapping[str, Any]] | None = None
    """What of the configuration its results depend on; by default all of `options`."""

    models: Names | Callable[[Config], Names] = ()
    """Roles of the models that its results depend on."""

    is_seeded: bool = False
    """Whether its results depend on the seed of the run."""

    code_version: int = 1
    """Raise it when a change of the code changes results."""

    gpu: bool | Callable[[], bool] = False
    """Whether a worker takes a GPU, if the cluster has any; a function where that depends on the installation."""

    slice_size: int | Callable[[Config], int] = 256
    """Default number of items that a worker gets at a time."""

    command: Literal["build", "render", "score", "evaluate"] = "build"
    """The command that runs it."""

    is_needed: Callable[[Config], bool] = lambda config: True
    """Whether a configuration has this stage at all."""

    note: Note | None = None
    """What to log of the counts that its workers return."""

    outdated: str | Callable[[Config], str] = ""
    """SQL for ids of items whose rows or rejects were made from metadata that has changed since: made again."""

    made_from: Mapping[str, str] = field(default_factory=dict)
    """By table upstream, SQL for the ids of its rows that were made from the items in a table `outdated`."""

    schema: Schema | None = None
    """The schema of `table`, if `aai.workspace.SCHEMAS` does not have it."""

    label: str = ""
    """What its rows are called in the report's totals; nothing leaves them out."""

    def upstream(self, config: Config) -> Names:
        """The tables and artifacts that it reads under a configuration."""
        return self.reads(config) if callable(self.reads) else self.reads

    def roles(self, config: Config) -> Names:
        """The roles of the models that it uses under a configuration."""
        return self.models(config) if callable(self.models) else self.models

    def outdated_ids(self, config: Config) -> str:
        """The SQL of `outdated` under a configuration."""
        return self.outdated(config) if callable(self.outdated) else self.outdated

    def default_slice_size(self, config: Config) -> int:
        """The number of items that a worker gets at a time unless `pools` says otherwise."""
        return self.slice_size(config) if callable(self.slice_size) else self.slice_size

    @property
    def takes_gpu(self) -> bool:
        """Whether a worker takes a GPU, if the cluster has any."""
        return self.gpu() if callable(self.gpu) else self.gpu

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schemas of the tables that it writes; none for an artifact."""
        own = {self.table: self.schema} if self.schema else {}
        return own | {name: SCHEMAS[name] for name in (self.table, *self.also) if name in SCHEMAS}


def sections_of(stages: Iterable[Stage]) -> dict[str, type[Options]]:
    """The sections of the configuration that some stages have, in their order."""
    return {stage.section or stage.name: stage.options for stage in stages if stage.options}
