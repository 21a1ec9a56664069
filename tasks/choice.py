"""What the best of a picture's candidates is chosen by: a measure whose model did not retrieve the cue's images."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aai.errors import BadConfig
from aai.jobs.job import Job, Measure
from aai.profiles import JudgeName, ModelName
from tasks.runtime.config import Config
from tasks.runtime.models import image_role
from tasks.runtime.run import Run

CHOSEN, OTHERS, UNMEASURED = "chosen", "others", "unmeasured"
"""Counts of pictures: chosen among several candidates; of these not the first; without a score for the choice."""

_ROLES: Mapping[Measure, str] = {"judge": "judge", "audio_judge": "audio_judge", "clip_score": "image_text"}
"""The role of each measure's model; the first that is independent is the default."""


def choice_of(run: Run, job: Job) -> dict[str, Any]:
    """The columns about the candidates of a job's pictures; none for a single candidate.

    Raises:
        BadConfig: no measure is independent of the retrieval, or the one that the job names has no model.
    """
    if job.candidates == 1:
        return {}
    measure = job.chosen_by or _independent(run.config, job)
    if _model(run.config, measure) is None:
        raise BadConfig(f"it has no model: name one in models.{_ROLES[measure]}", key=f"{job.position}: chosen_by")
    model = "@".join(run.revision(_ROLES[measure]))
    return {"candidates": job.candidates, "chosen_by": measure, "chosen_by_model": model}


def default_measure(config: Config) -> Measure | None:
    """The first measure whose model did not retrieve the images; none if each did or has no model."""
    for measure in _ROLES:
        if _model(config, measure) is not None and not _has_retrieved(config, measure):
            return measure
    return None


def dependence_of(config: Config, job: Job) -> str | None:
    """A sentence on a measure that is not independent of the retrieval; none if it is."""
    if job.candidates == 1 or job.chosen_by is None or not _has_retrieved(config, job.chosen_by):
        return None
    return f"{job.position}: chosen_by: {job.chosen_by} is not independent: its encoder retrieved the cues' images"


def note(counts: Counter[str]) -> str:
    """A sentence on how often another candidate than the first was kept."""
    if not counts[CHOSEN]:
        return ""
    unmeasured = f", could not be measured: {counts[UNMEASURED]:,}" if counts[UNMEASURED] else ""
    return f"pictures with candidates: {counts[CHOSEN]:,}, another than the first: {counts[OTHERS]:,}{unmeasured}"


def _independent(config: Config, job: Job) -> Measure:
    if measure := default_measure(config):
        return measure
    raise BadConfig(
        "no measure is independent of the retrieval: name a model in models.judge or models.audio_judge, or set "
        "chosen_by: clip_score, whose encoder retrieved the cues' images",
        key=f"{job.position}: candidates",
    )


def _has_retrieved(config: Config, measure: Measure) -> bool:
    """Whether the measure's model is the one of the index."""
    return bool(_model(config, measure) == getattr(config.models, image_role(config)))


def _model(config: Config, measure: Measure) -> ModelName | JudgeName | None:
    model: ModelName | JudgeName | None = getattr(config.models, _ROLES[measure])
    return model
