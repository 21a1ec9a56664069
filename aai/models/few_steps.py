"""Models that were distilled to need few steps (LCM, Turbo, Lightning, Hyper-SD): what their configuration says.

Their checkpoints bring the scheduler they were made for, which is the one that samples them unless a job names another.
This module imports neither torch nor diffusers: a plan reads it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aai.models.options import RenderOptions
from aai.models.parts import read_part

_DISTILLED = frozenset(["LCMScheduler", "TCDScheduler"])
"""Schedulers that serve distilled models alone."""

_TRAILING = frozenset(["DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"])
"""Schedulers that Turbo, Lightning and Hyper-SD have, with the timestep spacing `trailing`."""

_MAX_GUIDANCE = 3.0
_FEW_STEPS = 8
_ORIGINAL_STEPS = 50  # the default of LCMScheduler


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is sampled, from its configuration."""

    scheduler: str
    """Class of its scheduler in diffusers."""

    is_distilled: bool
    """Whether it certainly needs few steps and no classifier-free guidance."""

    seems_distilled: bool
    """Whether its scheduler is set up as those of Turbo and the like, which others can be, too."""

    has_guidance_input: bool
    """Whether the UNet takes the guidance scale as an input, as the first latent consistency models."""

    max_steps: int | None
    """The most steps that its scheduler can take; none if that is not limited."""

    def faults(self, options: RenderOptions, negative_prompt: str = "") -> Iterator[tuple[str, str]]:
        """Options that cannot work with this model: keys, and a sentence about each."""
        if self.has_guidance_input and negative_prompt:
            yield "negative_prompt", "this model takes the guidance scale as an input, and no negatives: leave it out"
        if self.has_guidance_input and options.guidance_interval:
            sentence = "this model takes the guidance scale as an input, which saves no time: leave the interval out"
            yield "guidance_interval", sentence
        if not self.is_distilled or options.scheduler is not None:
            return
        if self.max_steps and options.steps > self.max_steps:
            yield "steps", f"{options.steps} are more than the {self.max_steps} of the {self.scheduler}: set 4 to 8"
        if options.guidance > _MAX_GUIDANCE and not self.has_guidance_input:
            yield "guidance", f"{options.guidance:g} is too much for {self._made_for}: set guidance to 1"

    def advice(self, options: RenderOptions) -> Iterator[str]:
        """Options that are probably not meant for this model."""
        if not (self.is_distilled or self.seems_distilled):
            return
        if options.scheduler is not None and self.is_distilled:
            yield f"scheduler {options.scheduler}: the model brings its {self.scheduler}: leave the scheduler out"
        elif self.seems_distilled and options.guidance > _MAX_GUIDANCE:
            yield f"guidance {options.guidance:g}: if this is {self._made_for}, set guidance to 1 and steps to 1 to 8"
        elif options.steps > _FEW_STEPS and self.is_distilled:
            yield f"steps {options.steps}: {self._made_for} needs 1 to {_FEW_STEPS}"

    @property
    def _made_for(self) -> str:
        return f"a model that was distilled to few steps without guidance ({self.scheduler})"


def sampling_of(name: str | Path, revision: str | None = None) -> Sampling | None:
    """What a pipeline in a folder, or on the hub if it was loaded before, says of its sampling; else none."""
    config = read_part(name, revision, "scheduler", "scheduler_config.json")
    if not config:
        return None
    scheduler = str(config.get("_class_name", ""))
    is_distilled = scheduler in _DISTILLED
    is_plain = config.get("prediction_type", "epsilon") == "epsilon" and not config.get("rescale_betas_zero_snr")
    unet = read_part(name, revision, "unet", "config.json")
    return Sampling(
        scheduler,
        is_distilled,
        scheduler in _TRAILING and config.get("timestep_spacing") == "trailing" and is_plain,
        unet.get("time_cond_proj_dim") is not None,
        int(config.get("original_inference_steps", _ORIGINAL_STEPS)) if is_distilled else None,
    )
