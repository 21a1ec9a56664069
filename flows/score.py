"""Pictures -> what is measured of them."""

from flows.build import Do, at_once
from tasks import score as stage
from tasks.run import Run
from tasks.stage import StageSummary


def score(run: Run, do: Do = at_once) -> list[StageSummary]:
    """Measure all pictures of the configuration that have no scores; a second call does nothing.

    Raises:
        BadConfig: a model cannot be loaded, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """
    return [do("score", stage.score, run)]
