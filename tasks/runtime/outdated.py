"""Rows that were made from metadata that has changed since: they are removed, so that their items are made again.

A stage says by `outdated` which of its items these are, and stages after it say by `made_from` which of theirs were
made from these. Rows of later stages are removed first, and those by which the items are known to be outdated last,
so that a removal that is killed is done again.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from aai.errors import Transient

if TYPE_CHECKING:
    from tasks.runtime.run import Run
    from tasks.runtime.stage import Stage

_MAX_ATTEMPTS = 5
_REJECTS = "rejects"
_IDS = "SELECT id FROM outdated"

_log = logging.getLogger(__name__)


def remove_outdated(run: "Run", stage: "Stage") -> None:
    """Remove what a stage made from metadata that has changed since, with all that was made from it.

    Raises:
        Transient: the store failed, or other runs kept writing at the same time.
    """
    if not (sql := stage.outdated_ids(run.config)):
        return
    with run.query({_REJECTS: run.recipe(stage.table)}) as query:
        ids = query.table(f"SELECT DISTINCT id FROM ({sql}) o(id)")
    if not ids.num_rows:
        return
    numbers = [_remove_rows(run, later, found) for later, found in reversed(_following(run, stage, ids))]
    _log.warning(
        "%s: made from labels that have changed since, and removed to be made again: %s",
        stage.name,
        ", ".join(reversed([number for number in numbers if number])) or f"{ids.num_rows:,} rejects",
    )


def remove_rejects(run: "Run", table: str, ids: pa.Table) -> None:
    """Remove the rejects with some ids, and those of parts of these items.

    Raises:
        Transient: the store failed, or other runs kept writing at the same time.
    """
    _rewrite(run, _REJECTS, run.recipe(table), f"(id IN ({_IDS}) OR part_of IN ({_IDS}))", ids)


def _following(run: "Run", stage: "Stage", ids: pa.Table) -> list[tuple["Stage", pa.Table]]:
    """The outdated items of a stage, and those of later stages that were made from them."""
    found = {stage.table: (stage, ids)}
    for later in run.stages:
        for upstream, sql in later.made_from.items() if later.is_needed(run.config) else ():
            if upstream in found:
                with run.query(extra={"outdated": found[upstream][1]}) as query:
                    made = query.table(f"SELECT DISTINCT id FROM ({sql}) o(id)")
                if made.num_rows:
                    found[later.table] = later, made
    return list(found.values())


def _remove_rows(run: "Run", stage: "Stage", ids: pa.Table) -> str:
    """Remove rows and rejects of items, and return a phrase on the rows."""
    table, recipe = run.workspace.table(stage.table), run.recipe(stage.table)
    remove_rejects(run, stage.table, ids)
    num = _rewrite(run, stage.table, recipe, f"{table.schema.id} IN ({_IDS})", ids)
    return f"{num:,} rows of {stage.table}" if num else ""


def _rewrite(run: "Run", name: str, recipe: str, condition: str, ids: pa.Table) -> int:
    """Remove the rows of a table that meet a condition on some ids; how many there were."""
    table = run.workspace.table(name)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        with run.query({name: recipe}, {"outdated": ids}) as query:
            if not (num := query.number(f"SELECT count(*) FROM {name} WHERE {condition}")):
                return 0
            query.renew(name)
            kept = f"SELECT * FROM {name} WHERE NOT coalesce({condition}, false)"
            try:
                table.rewrite(recipe, partial(query.reader, kept))
            except Transient:
                if attempt == _MAX_ATTEMPTS:
                    raise
            else:
                return num
    raise AssertionError("the last attempt returns or raises")
