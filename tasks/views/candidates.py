"""How often another candidate than the first was kept."""

from tasks.runtime.run import Run

_CHOICES = """
    SELECT chosen_by, count(*) AS num, count(*) FILTER (chosen_seed <> seed) AS others
    FROM renders WHERE chosen_seed IS NOT NULL GROUP BY chosen_by ORDER BY chosen_by
"""


def chosen_otherwise(run: Run) -> list[str]:
    """A sentence per measure on the run's pictures that were chosen among several candidates.

    Raises:
        Transient: the store failed.
    """
    with run.query() as query:
        rows = query.table(_CHOICES).to_pylist()
    return [
        f"of {row['num']:,} chosen among candidates by {row['chosen_by']}, {row['others']:,} are not the first"
        for row in rows
    ]
