"""A run: a configuration, its workspace, its stages, and the recipes that follow from them.

Nothing here loads a model or starts Ray, so a plan is made in no time.
"""

import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pyarrow as pa

from aai.align.made_for import check_made_for
from aai.errors import BadConfig
from aai.identity import recipe_of
from aai.models.folders import check_folders, check_hub_model
from aai.models.judge import judge_entry
from aai.models.revisions import resolve_revision
from aai.profiles import JudgeName, ModelName
from aai.workspace import SCHEMAS, Query, Table, Workspace
from tasks.runtime.config import Config
from tasks.runtime.driver import Progress, StageRun, StageSummary, run_stage
from tasks.runtime.outdated import remove_outdated
from tasks.runtime.placement import nodes_to_come
from tasks.runtime.presence import Presence
from tasks.runtime.sharing import is_sole_maker
from tasks.runtime.source import QuerySource
from tasks.runtime.stage import Context, Pending, Source, Stage
from tasks.runtime.workers import Workers

Watch = Callable[[str], Progress]
"""Makes a progress callback for a stage."""

Make = Callable[[Path, Callable[[], None]], int]
"""Writes the files of an artifact into a folder, and returns the number of items in them; it calls the function that it
gets now and then, as a sign that it does not hang."""


@dataclass(frozen=True)
class Recipe:
    """The name of a computation: all that its results depend on."""

    stage: str
    options: dict[str, Any]
    models: dict[str, str]
    upstream: dict[str, str]
    code_version: int

    @cached_property
    def name(self) -> str:
        """Its digest."""
        return recipe_of(self.stage, self.options, self.models, self.upstream, self.code_version)


@dataclass
class Run:
    """A configuration at work on its workspace."""

    config: Config
    workspace: Workspace
    stages: tuple[Stage, ...]
    """In the order in which they run."""
    watch: Watch | None = None
    stop: Event = field(default_factory=Event)
    """Set from another thread, it ends the stage at work; what is finished is committed."""

    file: str | None = None
    """The configuration file, if it is from one: a name for its recipes that people know."""

    workers: Workers = field(init=False, repr=False)
    """The processes of the stages, which outlive a stage, so that models are loaded once."""

    _logs: dict[str, Table] = field(default_factory=dict, init=False, repr=False)
    """The tables that every stage appends to, kept because opening one reads its whole log."""

    def __post_init__(self) -> None:
        own = {name: schema for stage in self.stages for name, schema in stage.schemas.items()}
        self.workspace.schemas = SCHEMAS | own
        self.workers = Workers(nodes_to_come(self.config.submit))

    def close(self) -> None:
        """End the worker processes that wait for a next stage, and drop the models that they hold."""
        self.workers.close()

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """The recipe of each table and artifact.

        Raises:
            BadConfig: a model that a stage needs is not named correctly.
        """
        recipes: dict[str, Recipe] = {}
        for stage in self.stages:
            if stage.is_needed(self.config):
                upstream = {name: recipes[name].name for name in stage.upstream(self.config)}
                models = {role: self._model(role) for role in stage.roles(self.config)}
                recipe = Recipe(stage.name, self._settings(stage), models, upstream, stage.code_version)
                recipes |= dict.fromkeys((stage.table, *stage.also), recipe)
        return recipes

    def recipe(self, table: str) -> str:
        """The recipe of a table or artifact under this configuration."""
        return self.recipes[table].name

    def stage_of(self, table: str) -> Stage:
        """The stage that writes a table or artifact."""
        return next(stage for stage in self.stages if table in (stage.table, *stage.also))

    def revision(self, role: str) -> tuple[str, str]:
        """A model's name and its revision; for a folder, a digest of its files.

        Raises:
            BadConfig: the configuration names no model for the role, or names it wrongly.
        """
        model = getattr(self.config.models, role)
        return _revision(role, model.folder if isinstance(model, JudgeName) else model)

    @property
    def roles(self) -> list[str]:
        """The roles of the models that some stage uses."""
        return sorted({role for recipe in self.recipes.values() for role in recipe.models})

    def model_folder(self, role: str) -> Path | None:
        """The folder or file of a model, on the hub that in the cache; None if it must be downloaded first.

        Raises:
            BadConfig: a file in the cache is damaged, or some are not there and the hub does not answer.
        """
        model = getattr(self.config.models, role)
        name = model.folder if isinstance(model, JudgeName) else model if isinstance(model, str) else model.name
        if Path(name).exists():
            return Path(name)
        return check_hub_model(role, name, model.revision) if isinstance(model, ModelName) else None

    def check_models(self) -> None:
        """Check the folders of all models, without loading any; only the first call of a run does it.

        Raises:
            BadConfig: a model is damaged, or does not fit the others.
        """
        return self._checked_models

    @cached_property
    def _checked_models(self) -> None:
        folders = {role: self.model_folder(role) for role in self.roles}
        check_folders({role: folder for role, folder in folders.items() if folder})
        if self.config.models.aligner and "aligner" in self.roles:
            check_made_for(self.config.models.aligner, {role: self.revision(role) for role in ("audio", "image_text")})
        if self.config.models.judge:
            judge_entry(self.config.models.judge)

    def context(self) -> Context:
        """What workers are made from."""
        revisions = {role: self.revision(role) for role in self.roles}
        recipes = {name: recipe.name for name, recipe in self.recipes.items()}
        return Context(self.config, self.workspace, recipes, revisions)

    def query(self, recipes: Mapping[str, str] | None = None, extra: Mapping[str, pa.Table] | None = None) -> Query:
        """SQL over the run's tables; `recipes` are of tables that are read under another recipe than the run's.

        Raises:
            Transient: the store failed.
        """
        own = {name: recipe.name for name, recipe in self.recipes.items()}
        return self.workspace.query(own | dict(recipes or {}), extra)

    def pending(self, stage: Stage, extra: dict[str, pa.Table] | None = None) -> Pending:
        """What a stage has to do."""
        return QuerySource(self, stage, extra or {}, counts_outdated=True).pending(self.config.run.retry_rejects)

    def do(self, stage: Stage, source: Source | None = None) -> StageSummary:
        """Run a stage and log what it did; a second call does nothing.

        Raises:
            BadConfig: too many items were rejected, or the pool cannot start.
            Transient: the store failed, or a slice failed too often.
        """
        if not stage.is_needed(self.config):
            return StageSummary.nothing(stage.name, "")
        self.check_models()
        if not stage.takes_gpu:
            self.workers.release_gpus()
        if stage.make:
            return stage.make(self)
        assert stage.worker is not None, "a stage has a worker or makes itself"
        recipe = self.recipe(stage.table)
        self.register(stage.table)
        remove_outdated(self, stage)
        work = StageRun(
            stage.name,
            source or QuerySource(self, stage),
            stage.table,
            recipe,
            partial(stage.worker, self.context()),
            stage.takes_gpu,
            stage.note,
            self.workers,
        )
        progress = self.watch(stage.name) if self.watch else None
        started_at = datetime.now(UTC)
        pool = self.config.pool_of(stage.name, stage.default_slice_size(self.config))
        summary = run_stage(self.workspace, work, pool, self.config.run, progress, self.stop)
        if summary.new or summary.rejected:
            self.record(started_at, summary)
        return summary

    def make_artifact(self, name: str, version: int, make: Make) -> StageSummary:
        """Publish one version of an artifact, and log it; if the version exists, nothing is done.

        If another driver is making it, this one waits, and makes it only if the other one dies.
        """
        stage, recipe = self.stage_of(name), self.recipe(name)
        artifact = self.workspace.artifact(name, recipe, version)
        if artifact.exists():
            return StageSummary.nothing(stage.name, recipe, done=1)
        with Presence(self.workspace.store, name, recipe, stage.name) as presence:
            if not is_sole_maker(presence, f"version {version}", artifact.exists, self.stop):
                return StageSummary(stage.name, recipe, int(artifact.exists()), 0, 0, 0.0, self.stop.is_set())
            self.register(name)
            started_at, start_s = datetime.now(UTC), time.monotonic()
            with artifact.publish() as folder:
                num = make(folder, presence.finish)
        summary = StageSummary(stage.name, recipe, done=0, new=num, rejected=0, took_s=time.monotonic() - start_s)
        self.record(started_at, summary)
        return summary

    def register(self, table: str) -> None:
        """Store what a recipe stands for, once."""
        recipe = self.recipes[table]
        row = {
            "stage": recipe.stage,
            "options": json.dumps(recipe.options, sort_keys=True),
            "models": json.dumps(recipe.models, sort_keys=True),
            "upstream": json.dumps(recipe.upstream, sort_keys=True),
            "code_version": recipe.code_version,
        }
        self._append("recipes", recipe.name, row)

    def record(self, started_at: datetime, summary: StageSummary) -> None:
        """Log what a run of a stage did."""
        effort = summary.effort
        row = {
            "run_id": uuid4().hex,
            "stage": summary.stage,
            "started_at": started_at.isoformat(timespec="seconds"),
            "took_s": summary.took_s,
            "new": summary.new,
            "rejected": summary.rejected,
            "stopped": summary.stopped,
            "host": socket.gethostname(),
            "config": self.file,
            "num_workers": effort and effort.num_workers,
            "worker_gpus": effort and effort.gpus,
            "loading_s": effort and effort.loading_s,
            "worked_s": effort and effort.worked_s,
        }
        self._append("runs", summary.recipe, row)

    def _append(self, name: str, recipe: str, row: dict[str, Any]) -> None:
        table = self._logs.setdefault(name, self.workspace.table(name))
        table.append(recipe, pa.Table.from_pylist([row], schema=table.schema.columns))

    def _settings(self, stage: Stage) -> dict[str, Any]:
        if stage.settings:
            settings = dict(stage.settings(self.config))
        else:
            settings = self.config.options(stage.options).settings() if stage.options else {}
        if stage.is_seeded:
            settings["seed"] = self.config.seed
        return settings

    def _model(self, role: str) -> str:
        """What a recipe says of a model: name, revision, and the numeric type if it is not float32."""
        name, revision = self.revision(role)
        dtype = self.config.models.dtype_of(role)
        return f"{name}@{revision}" if dtype == "float32" else f"{name}@{revision}/{dtype}"


def _revision(role: str, model: ModelName | str | None) -> tuple[str, str]:
    if model is None:
        raise BadConfig("no model is named: name a folder, or choose another method", key=f"models.{role}")
    if isinstance(model, str):
        model = ModelName(name=model)
    try:
        return resolve_revision(model.name, model.revision)
    except BadConfig as error:
        raise BadConfig(error.sentence, key=f"models.{role}", uri=error.uri) from error
