"""Vectors that a bank has already: a training takes them instead of embedding the same clips and images again.

Ids are digests of contents, and a recipe names all that a vector depends on. So a row of the bank under the same recipe
and with the same id is the row that the training would make.
"""

import logging

import pyarrow as pa

from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_ROWS = 32_768
"""Rows in a commit: 100 MB of vectors of 768 dimensions."""

_log = logging.getLogger(__name__)


def reuse_vectors(run: Run, bank: Run, stage: Stage) -> int:
    """Copy the vectors that a stage would make and that a bank has; how many there were.

    Raises:
        Transient: a store failed.
    """
    name = stage.table
    wanted = _missing(run, stage)
    num = _copied(run, bank, name, wanted) if wanted.num_rows else 0
    if num:
        _log.warning(
            "%s: %s of %s vectors are taken from %s", stage.name, f"{num:,}", f"{len(wanted):,}", bank.workspace.uri
        )
    return num


def _missing(run: Run, stage: Stage) -> pa.Table:
    key = run.workspace.schemas[stage.table].id
    with run.query() as query:
        return query.table(
            f"SELECT {key} AS id FROM ({stage.items}) WHERE {key} NOT IN (SELECT {key} FROM {stage.table})"
        )


def _copied(run: Run, bank: Run, name: str, wanted: pa.Table) -> int:
    run.register(name)
    target, schema, recipe, num = run.workspace.table(name), run.workspace.schemas[name], run.recipe(name), 0
    sql = f"SELECT * FROM {name} v SEMI JOIN wanted w ON v.{schema.id} = w.id"
    with bank.workspace.query({name: recipe}) as query:
        query.keep_ids("wanted", wanted["id"])
        query.narrow("wanted", schema.id, sql)
        for rows in query.batches(sql, _ROWS):
            num += target.append(recipe, rows.cast(schema.columns))
    return num
