"""Image editing with a frozen diffusion model, from generated sources and from photos.

Sources and edits share one UNet batch: each distinct source once, however many edits it has, under its own prompt; each
edit under its prompt and, for classifier-free guidance, under its negative prompt.

Sources: Hertz et al. 2022, "Prompt-to-Prompt Image Editing with Cross Attention Control"; for masks Couairon et al.
2023, "DiffEdit: Diffusion-based Semantic Image Editing with Mask Guidance".
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from aai.edit.attention_control import AttentionControl, TokenAlignment, align_tokens, controlled_attention
from aai.edit.options import EditOptions
from aai.edit.trajectories import Generated, InversionCache, Inverted, Trajectory, VirtualInversion, invert
from aai.errors import BadItem
from aai.inject.prompt import parse
from aai.inject.splice import NO_CUE
from aai.inject.text_encoder import Conditioning
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from aai.models.sampling import Guidance
from aai.models.schedulers import NoiseLevels, new_scheduler
from aai.noise import generator_of

_MASK_DILATION = 3
"""Side, in latent pixels, of the max-pooling window that closes holes in a mask."""


@dataclass(frozen=True)
class EditRequest:
    """A batch of edits; each sequence has one item per edit."""

    source_prompts: Sequence[str]
    """Descriptions of the sources."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    cues: Float[Tensor, "edits vectors cue_dim"] | None
    negative_prompts: Sequence[str]


@dataclass(frozen=True)
class Photos:
    """The photos that a batch of edits is made from."""

    pixels: UInt8[np.ndarray, "photos height width 3"]
    """At a size that the model accepts; see `aai.edit.composite.size_for`."""

    keys: Sequence[Hashable]
    """Identity of each photo, such as its content id, by which its inversion is cached."""

    photo_of: Sequence[int]
    """The index of each edit's photo."""

    masks: Float[np.ndarray, "edits height width"] | None = None
    """A user's edit masks, from 0 to 1; without them the model finds the masks."""


@dataclass(frozen=True)
class EditResult:
    """The model's output for a batch of edits."""

    pictures: UInt8[np.ndarray, "edits height width 3"]
    """The edits, before compositing."""

    sources: UInt8[np.ndarray, "edits height width 3"]
    """The sources: generated images, or photos after a round trip through the VAE."""

    masks: Float[np.ndarray, "edits latent_height latent_width"]
    """The edit masks, from 0 to 1; all 1 if nothing is preserved."""


class Editor:
    """Prompt-to-Prompt editing with a frozen diffusion model."""

    def __init__(self, diffusion: Diffusion, render: RenderOptions, edit: EditOptions) -> None:
        self.diffusion, self.render, self.edit = diffusion, render, edit

    @torch.inference_mode()
    def from_prompts(self, request: EditRequest) -> EditResult:
        """Edit generated sources; an edit has its source's seed and initial noise.

        Raises:
            BadItem: as `Diffusion.encode_prompts`; a reweighted word is not in its prompt.
        """
        keys = list(zip(request.source_prompts, request.seeds, request.negative_prompts, strict=True))
        distinct = list(dict.fromkeys(keys))
        sources = _Sources(
            [prompt for prompt, _, _ in distinct],
            [negative for _, _, negative in distinct],
            [distinct.index(key) for key in keys],
        )
        scheduler = new_scheduler(self.diffusion.default_scheduler, self.render.scheduler)
        scheduler.set_timesteps(self.render.steps)
        seeds = [*(seed for _, seed, _ in distinct), *request.seeds]
        generators = [generator_of(seed) for seed in seeds]
        noise = self.diffusion.initial_noise(generators, self.render)
        step_kwargs = self.diffusion.extra_step_kwargs(scheduler, generators)
        trajectory = Generated(scheduler, step_kwargs, noise[: len(distinct)], noise[len(distinct) :])
        return self._run(trajectory, request, sources, None)

    @torch.inference_mode()
    def from_photos(self, request: EditRequest, photos: Photos, inversions: InversionCache) -> EditResult:
        """Edit photos at their size. Direct inversion ignores seeds.

        Raises:
            BadItem: as `from_prompts`.
        """
        is_virtual = self.edit.inversion == "virtual"
        seeds = request.seeds if is_virtual else [0] * len(request.seeds)
        keys = list(zip(photos.photo_of, request.source_prompts, seeds, strict=True))
        distinct = list(dict.fromkeys(keys))
        prompts = [prompt for _, prompt, _ in distinct]
        sources = _Sources(prompts, [""] * len(prompts), [distinct.index(key) for key in keys])
        pixels = torch.from_numpy(photos.pixels[[photo for photo, _, _ in distinct]]).permute(0, 3, 1, 2)
        clean = self.diffusion.encode_images(pixels / 127.5 - 1)
        scheduler = new_scheduler(self.diffusion.default_scheduler, "ddim")
        scheduler.set_timesteps(self.render.steps)
        levels = NoiseLevels(scheduler)
        trajectory: Trajectory
        if is_virtual:
            trajectory = VirtualInversion(levels, clean, [seed for _, _, seed in distinct], sources.index)
        else:
            photo_keys = [photos.keys[photo] for photo, _, _ in distinct]
            inverted = self._invert(photo_keys, prompts, clean, levels, inversions)
            trajectory = Inverted(levels, inverted, clean, sources.index)
        return self._run(trajectory, request, sources, photos.masks)

    def _invert(
        self,
        photo_keys: Sequence[Hashable],
        prompts: Sequence[str],
        clean: Float[Tensor, "sources c h w"],
        levels: NoiseLevels,
        inversions: InversionCache,
    ) -> Float[Tensor, "sources levels c h w"]:
        """The DDIM inversions of photos under their prompts, computed unless cached."""
        steps, size = self.render.steps, clean.shape[2:]
        keys = [(key, prompt, steps, size) for key, prompt in zip(photo_keys, prompts, strict=True)]

        def invert_some(indices: list[int]) -> Tensor:
            conditioning = self.diffusion.encode_prompts([prompts[index] for index in indices])
            return invert(lambda noisy, t: self.diffusion.predict(noisy, t, conditioning), levels, clean[indices])

        return inversions.get(keys, invert_some)

    def _run(
        self,
        trajectory: Trajectory,
        request: EditRequest,
        sources: "_Sources",
        masks: Float[np.ndarray, "edits height width"] | None,
    ) -> EditResult:
        """Denoise sources and edits together, then decode them."""
        levels, of = trajectory.levels, sources.index
        num_steps = len(levels.timesteps)
        conditioning, sizes = self._conditioning(trajectory, request, sources)
        unguided, guidance = conditioning[: sum(sizes[:2])], Guidance(self.render, levels.edm_sigmas())
        scales, edit_scales = self._scales(trajectory, sizes), self._guidance_scales(trajectory, request)
        control = self._control(trajectory, request, sources, records_maps=self._uses_maps and masks is None)
        edit_mask = _EditMask(self.edit, control, masks)
        with controlled_attention(self.diffusion.pipeline.unet, control):
            for index, timestep in enumerate(levels.timesteps):
                control.self_injection = index < self.edit.self_fraction * num_steps
                control.cross_injection = index < self.edit.cross_fraction * num_steps
                source, edit = trajectory.model_inputs(index)
                parts = sizes if guidance.is_active(index) else sizes[:2]
                batch = torch.cat([source, edit, edit, source][: len(parts)])
                outputs = self.diffusion.predict(
                    batch, timestep, conditioning if len(parts) > 2 else unguided, scales
                ).split(parts)
                source_output, edit_output, *unconditional = outputs
                guided_source = _guide(guidance, source_output, unconditional[1:])
                if index < (1 - self.edit.strength) * num_steps:  # not edited yet: the edit equals its source
                    trajectory.step(index, guided_source, guided_source[of])
                    trajectory.replace_edits(trajectory.latents()[0][of])
                    continue
                edit_mask.update(levels, index, (source[of], edit), (source_output[of], edit_output))
                trajectory.step(index, guided_source, _guide(guidance, edit_output, unconditional[:1], edit_scales))
                if self.edit.preserve != "none" and index >= self.edit.blend_from * num_steps:
                    source, edit = trajectory.latents()
                    trajectory.replace_edits(source[of] + edit_mask.current() * (edit - source[of]))
        return self._decode(trajectory, of, edit_mask)

    def _decode(self, trajectory: Trajectory, source_index: list[int], edit_mask: "_EditMask") -> EditResult:
        source, edit = trajectory.latents()
        pictures = self.diffusion.decode(torch.cat([source, edit]))
        mask = torch.ones_like(edit[:, 0]) if self.edit.preserve == "none" else edit_mask.current()[:, 0]
        return EditResult(pictures[len(source) :], pictures[: len(source)][source_index], mask.float().cpu().numpy())

    @property
    def _uses_maps(self) -> bool:
        return self.edit.preserve != "none" and self.edit.mask == "attention"

    def _conditioning(
        self, trajectory: Trajectory, request: EditRequest, sources: "_Sources"
    ) -> tuple[Conditioning, list[int]]:
        """Conditioning and sizes of the parts of the UNet batch: sources, edits, unconditional edits and sources."""
        parts = [
            self.diffusion.encode_prompts(sources.prompts),
            self.diffusion.encode_prompts(request.prompts, request.cues),
        ]
        if self.diffusion.takes_negatives(self.render):
            parts.append(self._led_from(request, self._are_led(trajectory, request)))
            if trajectory.guides_sources:
                parts.append(self.diffusion.encode_negatives(sources.negative_prompts))
        return Conditioning.join(parts), [len(part.context) for part in parts]

    def _are_led(self, trajectory: Trajectory, request: EditRequest) -> list[bool]:
        """Whether guidance leads each edit from its source's prompt, not from its negative prompt.

        With virtual inversion an edit without guidance is its photo, changed by what the cue says; guidance that leads
        from the empty prompt changes what both prompts say as well, all over the photo.
        """
        is_virtual = isinstance(trajectory, VirtualInversion) and self.edit.guide_from == "source"
        return [is_virtual and not negative for negative in request.negative_prompts]

    def _led_from(self, request: EditRequest, are_led: Sequence[bool]) -> Conditioning:
        """What guidance leads each edit from."""
        negatives = self.diffusion.encode_negatives(request.negative_prompts)
        if not any(are_led):
            return negatives
        joined = Conditioning.join([negatives, self.diffusion.encode_prompts(request.source_prompts)])
        return joined[[index + is_led * len(are_led) for index, is_led in enumerate(are_led)]]

    def _guidance_scales(self, trajectory: Trajectory, request: EditRequest) -> Float[Tensor, "edits 1 1 1"]:
        """The guidance scale of each edit."""
        cue, full = self.edit.cue_guidance_of(self.render.guidance), self.render.guidance
        scales = [cue if is_led else full for is_led in self._are_led(trajectory, request)]
        return torch.tensor(scales, device=self.diffusion.device)[:, None, None, None]

    def _scales(self, trajectory: Trajectory, sizes: list[int]) -> list[float] | None:
        """The guidance scale of each element for models that take it; photos are sources without guidance."""
        if not self.diffusion.has_guidance_input:
            return None
        of_sources = self.render.guidance if trajectory.guides_sources else 1.0
        return [of_sources] * sizes[0] + [self.render.guidance] * sizes[1]

    def _control(
        self, trajectory: Trajectory, request: EditRequest, sources: "_Sources", records_maps: bool
    ) -> AttentionControl:
        edits, num_sources = trajectory.latents()[1], len(sources.prompts)
        return AttentionControl(
            edits=torch.arange(num_sources, num_sources + len(edits), device=edits.device),
            sources=torch.tensor(sources.index, device=edits.device),
            alignment=self._align(request).to(edits.device),
            latent_size=(edits.shape[2], edits.shape[3]),
            max_self_positions=self.edit.self_side**2,
            records_maps=records_maps,
        )

    def _align(self, request: EditRequest) -> TokenAlignment:
        """Alignment by the first text encoder's tokens, which all text encoders share."""
        encoder = self.diffusion.text_encoders[0]
        sources, _ = encoder.token_ids([parse(prompt) for prompt in request.source_prompts])
        num_vectors = 0 if request.cues is None else request.cues.shape[1]
        edits, vector_indices = encoder.token_ids([parse(prompt) for prompt in request.prompts], num_vectors)
        is_cue = vector_indices != NO_CUE
        source_position, is_shared = align_tokens(sources.tolist(), edits.where(~is_cue, -1).tolist())
        if not num_vectors:  # words stand for cues: those that the source prompt does not have
            is_cue = is_shared == 0
        weight = torch.ones_like(is_shared)
        for word, factor in self.edit.reweight.items():
            word_ids = encoder.tokenise([word])[0]
            for index, prompt in enumerate(request.prompts):
                weight[index, _positions_of(word, word_ids, prompt, edits[index].tolist())] = factor
        return TokenAlignment(source_position, is_shared, weight, is_cue)


def _guide(
    guidance: Guidance, conditional: Tensor, unconditional: Sequence[Tensor], scales: Tensor | None = None
) -> Tensor:
    """Classifier-free guidance, if there is an unconditional output."""
    return guidance.combine(conditional, unconditional[0], scales) if unconditional else conditional


@dataclass(frozen=True)
class _Sources:
    """The distinct sources of a batch of edits."""

    prompts: Sequence[str]
    negative_prompts: Sequence[str]

    index: list[int]
    """The index of each edit's source."""


def _positions_of(word: str, word_ids: Sequence[int], prompt: str, ids: Sequence[int]) -> list[int]:
    """The positions of a word's tokens among a prompt's.

    Raises:
        BadItem: the word is not in the prompt.
    """
    size = len(word_ids)
    starts = [start for start in range(len(ids)) if size and list(ids[start : start + size]) == list(word_ids)]
    if not starts:
        raise BadItem(f"the prompt {prompt!r} does not contain {word!r}: remove this word", key="edit.reweight")
    return [start + offset for start in starts for offset in range(size)]


class _EditMask:
    """The edit mask: given by the user, or from the difference of predictions or the cues' attention maps."""

    def __init__(
        self, options: EditOptions, control: AttentionControl, masks: Float[np.ndarray, "edits height width"] | None
    ) -> None:
        self._options, self._control, self._difference = options, control, torch.zeros(())
        self._given = None
        if masks is not None:
            given = torch.from_numpy(masks)[:, None].to(control.alignment.is_shared)
            self._given = F.adaptive_max_pool2d(given, control.latent_size)

    def update(
        self, levels: NoiseLevels, index: int, latents: tuple[Tensor, Tensor], outputs: tuple[Tensor, Tensor]
    ) -> None:
        """Add the difference of the predicted clean latents of sources and edits, weighted by the signal level."""
        source, edit = (levels.split(noisy, output, index)[0] for noisy, output in zip(latents, outputs, strict=True))
        self._difference = self._difference + levels.signal(index) * (edit - source).abs().mean(1, keepdim=True).float()

    def current(self) -> Float[Tensor, "edits 1 latent_height latent_width"]:
        """1 inside the edit, 0 outside."""
        if self._given is not None:
            return self._given
        by_difference = self._options.mask == "difference"
        heatmap = self._difference if by_difference else self._control.cue_map()[:, None]
        dilated = F.max_pool2d(heatmap, _MASK_DILATION, 1, _MASK_DILATION // 2)
        threshold = self._options.threshold * dilated.amax((1, 2, 3), keepdim=True)
        return (dilated > threshold).to(self._control.alignment.is_shared)
