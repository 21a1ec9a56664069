"""Training of the aligner (audio to image embedding space) and of the mapper (image embedding space to cues)."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapModel, CLIPModel

from aai.align.losses import info_nce, logit_scale
from aai.align.projector import Projector
from aai.cues.mapper import CueMapper
from aai.models.diffusion import Diffusion, load_diffusion
from aai.options import PLACEHOLDER
from aai.tiny.training.clap import embed_all
from aai.tiny.training.clip import DIM, pair_weights
from aai.tiny.training.data import (
    TRAINING_SEED,
    ClipSet,
    SceneSet,
    clip_set,
    scene_set,
)
from aai.tiny.training.diffusion import cached_latents
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.warm import warm_start
from aai.tiny.vocabulary import ADVERBS, COMPOSITIONS, PHENOMENA, TONES, caption

ALIGNER = LoopOptions(steps=3000, batch=256, learning_rate=1e-3, warm_share=0.4)
MAPPER = LoopOptions(
    steps=600, batch=64, learning_rate=1.5e-3, weight_decay=1e-3, warmup=10, average=0.98, warm_share=2 / 3
)

_COSINE_WEIGHT = 5.0
"""Weight of the mean cosine distance from the scenes: contrastive losses alone fit what differs in a batch."""

_VARIATIONS = 4
"""Augmented versions of each training clip."""

_MAX_DIFFERENCE = 0.04
"""Maximum difference in intensity between a clip and a matching scene."""

_MAX_TONE_DIFFERENCE = 0.1
"""The same in tone, where there are such scenes."""

_MAX_RELATIVE_NORM = 1.5
"""Cue vectors longer than this multiple of the mean word embedding are penalised: they dominate the prompt."""


class SceneMatcher:
    """Draws scenes that match clips: the same phenomenon, a similar intensity and tone, a given composition."""

    def __init__(self, scenes: SceneSet) -> None:
        self.sorted: dict[tuple[str, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for composition in COMPOSITIONS[1:]:
            for num, phenomenon in enumerate(PHENOMENA):
                key = (composition, phenomenon)
                members = [i for i, s in enumerate(scenes.scenes) if (s.composition, s.phenomenon) == key]
                levels = np.array([scenes.scenes[i].intensity for i in members])
                order = np.argsort(levels)
                tones = np.array([scenes.scenes[i].tone for i in members])
                self.sorted[composition, num] = (np.array(members)[order], levels[order], tones[order])

    def draw(  # noqa: PLR0913
        self, compositions: list[str], phenomena: Tensor, intensities: Tensor, tones: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Indices of one scene per clip."""
        indices = []
        quantiles = torch.rand(len(phenomena), generator=rng).tolist()
        for composition, phenomenon, level, tone, quantile in zip(
            compositions, phenomena.tolist(), intensities.tolist(), tones.tolist(), quantiles, strict=True
        ):
            members, levels, own_tones = self.sorted[composition, phenomenon]
            low, high = np.searchsorted(levels, [level - _MAX_DIFFERENCE, level + _MAX_DIFFERENCE])
            low = min(low, len(members) - 1)
            high = max(high, low + 1)
            distance = np.abs(own_tones[low:high] - tone)
            near = low + np.flatnonzero(distance <= max(_MAX_TONE_DIFFERENCE, distance.min()))
            indices.append(members[near[int(quantile * len(near))]])
        return torch.tensor(np.array(indices))


def train_aligner(setup: TrainingSetup) -> None:
    """Train with InfoNCE and the cosine distance between clips and noun scenes; CLIP and CLAP are frozen."""
    torch.manual_seed(setup.seed + 4)
    clips, embeddings = _embedded_clips(setup)
    scenes = scene_set(setup.num_scenes, TRAINING_SEED, setup.folder)
    images, matcher = embed_scenes(_clip(setup), scenes, setup), SceneMatcher(scenes)
    aligner, scale = Projector(DIM, DIM).to(setup.device), nn.ParameterDict({"log": logit_scale()}).to(setup.device)
    warm_start(aligner, setup, "aligner")

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        version = torch.randint(_VARIATIONS, (batch,), generator=rng)
        names, levels, tones = clips.phenomena[chosen], clips.intensities[chosen], clips.tones[chosen]
        targets = images[matcher.draw(["noun"] * batch, names, levels, tones, rng)].to(setup.device)
        aligned = aligner(embeddings[chosen, version].to(setup.device))
        weights = pair_weights(names, levels, tones) + torch.eye(batch)
        value = info_nce(aligned @ targets.T * scale["log"].exp(), weights.to(setup.device))
        distance = 1 - (aligned * targets).sum(dim=1).mean()
        return value + _COSINE_WEIGHT * distance, {"loss": value.item(), "distance": distance.item()}

    fit("aligner", nn.ModuleDict({"aligner": aligner, "scale": scale}), loss, ALIGNER, setup)
    aligner.save(setup.folder / "aligner")


def train_mapper(setup: TrainingSetup) -> None:
    """Train with the denoising loss of matching scenes, under captions whose subject is the clip's cue.

    Nouns, verbs and adjectives are equally frequent, so that a cue works in all three.
    """
    torch.manual_seed(setup.seed + 5)
    clips, embeddings = _embedded_clips(setup)
    aligner = Projector.load(setup.folder / "aligner").to(setup.device)
    with torch.no_grad():
        aligned = aligner(embeddings.to(setup.device))
    scenes, latents = scene_set(setup.num_scenes, TRAINING_SEED, setup.folder), cached_latents(setup)
    matcher, diffusion = SceneMatcher(scenes), load_diffusion(setup.folder / "pipeline", setup.device)
    mapper, max_norm = _new_mapper(diffusion)
    warm_start(mapper, setup, "mapper")

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        version = torch.randint(_VARIATIONS, (batch,), generator=rng)
        uses = [COMPOSITIONS[1:][i] for i in torch.randint(3, (batch,), generator=rng).tolist()]
        truth = clips.phenomena[chosen], clips.intensities[chosen], clips.tones[chosen]
        targets = matcher.draw(uses, *truth, rng)
        backgrounds = [scenes.scenes[i].background for i in targets.tolist()]
        prompts = [caption(use, PLACEHOLDER, background) for use, background in zip(uses, backgrounds, strict=True)]
        timesteps = torch.randint(diffusion.num_train_timesteps, (batch,), generator=rng).to(setup.device)
        clean = latents[targets].to(setup.device)
        noise = torch.randn(clean.shape, generator=rng).to(setup.device)
        cues = mapper(aligned[chosen.to(setup.device), version.to(setup.device)])
        with setup.autocast():
            losses = diffusion.denoising_losses(clean, diffusion.encode_prompts(prompts, cues), timesteps, noise)
        excess = (cues.norm(dim=-1) / max_norm - 1).clamp(min=0).square().mean()
        return losses.mean() + 0.1 * excess, {"loss": losses.mean().item()}

    fit("mapper", nn.ModuleDict({"mapper": mapper}), loss, MAPPER, setup)
    mapper.save(setup.folder / "mapper")


def _new_mapper(diffusion: Diffusion) -> tuple[CueMapper, float]:
    """A mapper initialised at the mean adverb and the mean phenomenon, and the norm above which cues are penalised."""
    adverbs, tones, nouns = (diffusion.word_embeddings(names) for names in (ADVERBS, TONES, PHENOMENA))
    starts = [adverbs.mean(0) + tones.mean(0), nouns.mean(0)]
    mapper = CueMapper(DIM, diffusion.cue_dim, num_tokens=len(starts)).to(diffusion.device)
    mapper.start_at(torch.stack(starts))
    return mapper, _MAX_RELATIVE_NORM * float(torch.cat([adverbs, tones, nouns]).norm(dim=1).mean())


def _clip(setup: TrainingSetup) -> CLIPModel:
    return CLIPModel.from_pretrained(setup.folder / "clip", dtype=torch.float32).to(setup.device).eval()


def _embedded_clips(setup: TrainingSetup) -> tuple[ClipSet, Tensor]:
    """The training clips and their embeddings, clips x variations x dim."""
    clips, path = clip_set(setup.num_clips, TRAINING_SEED, setup.folder), setup.folder / "clip_embeddings.pt"
    if not path.exists():
        clap = ClapModel.from_pretrained(setup.folder / "clap", dtype=torch.float32).to(setup.device).eval()
        torch.save(embed_all(clap, clips, setup, _VARIATIONS), path)
    return clips, torch.load(path, weights_only=True)


@torch.no_grad()
def embed_scenes(clip: CLIPModel, scenes: SceneSet, setup: TrainingSetup) -> Tensor:
    """Unit vectors of all scenes, on the CPU."""
    parts = []
    for start in range(0, len(scenes), 200):
        pixels = scenes.tensor(torch.arange(start, min(start + 200, len(scenes)))).to(setup.device)
        with setup.autocast():
            parts.append(clip.get_image_features(pixel_values=pixels).pooler_output.float().cpu())
    return nn.functional.normalize(torch.cat(parts), dim=-1)
