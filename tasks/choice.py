"""What the best of a picture's candidates is chosen by: a measure whose model did not retrieve the cue's images."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aai.errors import BadConfig
from aai.jobs.job import Job, Measure
from tasks.runtime.config import Config
from tasks.runtime.models import image_role
from tasks.runtime.run import Run

CHOSEN, OTHERS, UNMEASURED = "chosen", "others", "unmeasured"
"""Counts of pictures: chosen among several candidates; of these not the first; without a score for the choice."""

_ROLES: Mapping[Measure, str] = {"judge": "judge", "clip_score": "image_text"}


def choice_of(run: Run, job: Job) -> dict[str, Any]:
    """The columns about the candidates of a job's pictures; none for a single candidate.

    Raises:
        BadConfig: no measure is independent of the retrieval, or the one that the job names has no model.
    """
    if job.candidates == 1:
        return {}
    measure = job.chosen_by or _independent(run.config, job)
    if measure == "judge" and not run.config.models.judge:
        raise BadConfig("there is no judge: name one in models.judge", key=f"{job.position}: chosen_by")
    model = "@".join(run.revision(_ROLES[measure]))
    return {"candidates": job.candidates, "chosen_by": measure, "chosen_by_model": model}


def dependence_of(config: Config, job: Job) -> str | None:
    """A sentence on a measure that is not independent of the retrieval; none if it is."""
    if job.candidates == 1 or job.chosen_by != "clip_score" or not _has_retrieved(config):
        return None
    return f"{job.position}: chosen_by: clip_score is not independent: the same encoder retrieved the cues' images"


def note(counts: Counter[str]) -> str:
    """A sentence on how often another candidate than the first was kept."""
    if not counts[CHOSEN]:
        return ""
    unmeasured = f"; {counts[UNMEASURED]:,} could not be measured" if counts[UNMEASURED] else ""
    return f"of {counts[CHOSEN]:,} pictures with candidates {counts[OTHERS]:,} are not the first{unmeasured}"


def _independent(config: Config, job: Job) -> Measure:
    if config.models.judge:
        return "judge"
    if not _has_retrieved(config):
        return "clip_score"
    raise BadConfig(
        "no measure is independent of the retrieval: name a judge in models.judge, or set chosen_by: clip_score, whose "
        "encoder retrieved the cues' images",
        key=f"{job.position}: candidates",
    )


def _has_retrieved(config: Config) -> bool:
    """Whether the image-text encoder is the one of the index."""
    return image_role(config) == "image_text"
