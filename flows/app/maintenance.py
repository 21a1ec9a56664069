"""Maintenance of a cue bank: merging small files, and removing what is no longer needed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from aai.errors import BadConfig
from aai.workspace import Artifact
from aai.workspace.drivers import at_work
from aai.workspace.maintenance import Garbage, find_garbage, remove_artifact, remove_garbage
from tasks.runtime.run import Run
from tasks.views.made_by import Maker, makers

_LOG_TABLES = ("recipes", "runs")

_GONE_CLIPS = "SELECT clip_id AS id FROM known_clips WHERE NOT is_present"
_GONE_IMAGES = "SELECT image_id AS id FROM known_images WHERE NOT is_present"
_GONE_RENDERS = (
    f"SELECT render_id AS id FROM renders WHERE list_has_any(clip_ids, (SELECT list(id) FROM ({_GONE_CLIPS})))"
)
_GONE_FILES = "SELECT file_id AS id FROM {}_items WHERE NOT is_present"
_GONE_TARS = "SELECT file_id AS id FROM known_{}_listing WHERE is_tar AND NOT is_present"
# In this order a removal that is killed leaves no row that something else refers to, and no file that counts as read
# while its clips are gone.
_OF_GONE = {
    "scores": ("render_id", _GONE_RENDERS),
    "renders": ("render_id", _GONE_RENDERS),
    "cues": ("clip_id", _GONE_CLIPS),
    "neighbours": ("clip_id", _GONE_CLIPS),
    "aligned_vectors": ("clip_id", _GONE_CLIPS),
    "audio_vectors": ("clip_id", _GONE_CLIPS),
    "image_vectors": ("image_id", _GONE_IMAGES),
    "audio_files": ("file_id", _GONE_FILES.format("audio")),
    "image_files": ("file_id", _GONE_FILES.format("image")),
    "clips": ("clip_id", _GONE_CLIPS),
    "images": ("image_id", _GONE_IMAGES),
    "audio_members": ("tar_id", _GONE_TARS.format("audio")),
    "image_members": ("tar_id", _GONE_TARS.format("image")),
}


_S_PER_H = 3600
_MIN_H_BESIDE_RUNS = 24
"""Hours that orphans are kept at least while a run may be at work."""


@dataclass(frozen=True)
class Removal:
    """Rows of a table under one recipe that are to be removed."""

    table: str
    recipe: str
    num: int
    key: str = ""
    ids: pa.Table | None = None
    """The ids of these rows; without them, all rows of the recipe."""


def compact(run: Run) -> list[str]:
    """Merge small Parquet files of all tables, and return a sentence for each table that changed.

    Raises:
        Transient: the store failed, or another run removed rows at the same time.
    """
    lines, progress, names = [], run.watch("compact") if run.watch else None, list(run.workspace.schemas)
    for number, name in enumerate(names, start=1):
        before, after = run.workspace.table(name).compact()
        if after < before:
            lines.append(f"{name}: {before:,} files merged into {after:,}")
        if progress:
            progress(number, len(names), 0.0)
    return lines or ["nothing to do: no table has small files to merge"]


def prune(run: Run, generations: bool, removed: bool, older_than_h: float, dry_run: bool) -> list[str]:
    """Remove garbage and, on request, earlier generations and the rows of removed source files.

    Returns a line for each part; with `dry_run` nothing is removed.

    Raises:
        BadConfig: files of the last day are to go while a run is at work.
        Transient: the store failed, or another run wrote at the same time.
    """
    if not dry_run and older_than_h < _MIN_H_BESIDE_RUNS:
        _check_nobody_works(run)
    removals = [*(_earlier_rows(run) if generations else ()), *(_rows_of_gone(run) if removed else ())]
    artifacts = _earlier_artifacts(run) if generations else []
    known = makers(run.workspace) if removals else {}
    lines = [
        f"{removal.table}: {removal.num:,} rows of recipe {removal.recipe}{_maker(known.get(removal.recipe))}"
        for removal in removals
    ]
    lines += [
        f"artifact {artifact.name} of recipe {artifact.recipe}, version {artifact.version}" for artifact in artifacts
    ]
    if dry_run:
        garbage = find_garbage(run.workspace, older_than_h)
    else:
        garbage = remove_garbage(run.workspace, older_than_h)  # first, so that it is what was announced
        for removal in removals:
            _remove(run, removal)
        for artifact in artifacts:
            remove_artifact(artifact)
    lines += _garbage_lines(garbage)
    if not lines:
        return [f"nothing to remove that is older than {older_than_h:g} hours"]
    if dry_run:
        return ["would remove, with --yes:", *lines]
    freed = "; the files of removed rows go with a later prune, once they are old enough" if removals else ""
    return ["removed:", *lines, f"done{freed}"]


def _maker(maker: Maker | None) -> str:
    return f", made with {maker.config}, last on {maker.started_at[:10]}" if maker else ""


def _check_nobody_works(run: Run) -> None:
    """Check that no run has shown a sign of life within the last hour.

    Raises:
        BadConfig: one has.
        Transient: the store failed.
    """
    earliest_s = time.time() - _S_PER_H
    processes = [file.process for driver, file in at_work(run.workspace.store) if driver.renewed_s >= earliest_s]
    if processes:
        raise BadConfig(
            f"a run is at work ({processes[0]}), and no commit names its newest files yet: wait until it ends, or keep "
            f"orphans of the last {_MIN_H_BESIDE_RUNS} hours",
            key="--older-than",
        )


def _garbage_lines(garbage: Garbage) -> Iterator[str]:
    for paths, what in (
        (garbage.data_files, "data files that no commit names"),
        (garbage.shards, "shards that no row names"),
        (garbage.artifact_files, "files of artifacts that were not published"),
        (garbage.driver_files, "files of drivers that were killed"),
    ):
        if paths:
            yield f"{len(paths):,} {what}, such as {paths[0]}"


def _earlier_rows(run: Run) -> list[Removal]:
    """All rows under recipes other than the configuration's: what marks items as done before what belongs to them."""
    own = {recipe.name for recipe in run.recipes.values()}
    written = [name for stage in reversed(run.stages) for name in (stage.table, *stage.also)]
    return [
        Removal(name, recipe, num)
        for name in dict.fromkeys([*written, *run.workspace.schemas])
        if name in run.workspace.schemas and name not in _LOG_TABLES
        for recipe, num in run.workspace.table(name).recipes().items()
        if recipe not in own and num
    ]


def _earlier_artifacts(run: Run) -> list[Artifact]:
    """Artifacts of other recipes, and earlier versions of the present ones."""
    artifacts = run.workspace.artifacts()
    newest = {(artifact.name, artifact.recipe): artifact.version for artifact in artifacts}
    own = {recipe.name for recipe in run.recipes.values()}
    return [
        artifact
        for artifact in artifacts
        if artifact.recipe not in own or artifact.version < newest[artifact.name, artifact.recipe]
    ]


def _rows_of_gone(run: Run) -> list[Removal]:
    """Rows of clips and images whose files are no longer in the source folders."""
    found = []
    with run.query() as query:
        for table, (key, ids) in _OF_GONE.items():
            gone = query.table(f"SELECT t.{key} AS id FROM {table} t SEMI JOIN ({ids}) g ON t.{key} = g.id")
            if gone.num_rows:
                found.append(Removal(table, run.recipe(table), gone.num_rows, key, gone))
    return found


def _remove(run: Run, removal: Removal) -> None:
    table = run.workspace.table(removal.table)
    if removal.ids is None:
        table.drop(removal.recipe)
        return
    with run.query(extra={"gone": removal.ids}) as query:
        sql = f"SELECT t.* FROM {removal.table} t ANTI JOIN gone g ON t.{removal.key} = g.id"
        table.rewrite(removal.recipe, lambda: query.reader(sql))
