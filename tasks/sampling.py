"""What of jobs is probably not meant so, found before the text-to-image model is loaded."""

from collections.abc import Iterator, Sequence

from aai.errors import BadConfig
from aai.inject.prompt import parse
from aai.jobs.job import Job, fields_of
from aai.models.few_steps import Sampling, sampling_of
from aai.options import PLACEHOLDER
from tasks.runtime.run import Run

_DIRECT = "direct inversion retraces the steps of a sampler, which this model does not have: set it to virtual"


def check_sampling(run: Run, jobs: Sequence[Job]) -> list[str]:
    """Sentences about options that are probably not meant for the model.

    Raises:
        BadConfig: an option cannot work with it; `key` names the job and the option.
    """
    model = run.config.models.diffusion
    sampling = sampling_of(model.name, model.revision)
    if sampling is None:
        return []
    for job in jobs:
        for key, sentence in _faults(sampling, job):
            raise BadConfig(sentence, key=f"{job.position}: {key}")
    return [f"{job.position}: {sentence}" for job in jobs for sentence in sampling.advice(job.options)]


def without_sound(job: Job) -> list[str]:
    """A sentence for each prompt of a job that takes nothing from any clip: a `*` may have been forgotten."""
    return [
        f"{job.position}: {prompt!r} has no {PLACEHOLDER} for a sound: the plain model renders it"
        for prompt in job.prompts
        if not parse(prompt).slots and not fields_of(prompt)
    ]


def _faults(sampling: Sampling, job: Job) -> Iterator[tuple[str, str]]:
    yield from sampling.faults(job.options, job.negative_prompt)
    if sampling.is_distilled and job.photos and job.edit.inversion == "direct":
        yield "edit.inversion", _DIRECT
