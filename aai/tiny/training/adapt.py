"""The two small networks between the models: the aligner (sound to image space) and the shared mapper (to cues)."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapModel, CLIPModel

from aai.align.projector import Projector, contrast, temperature
from aai.cues.mapper import CueMapper
from aai.models.diffusion import Diffusion, load_diffusion
from aai.options import PLACEHOLDER
from aai.tiny.training.clap import embed_all
from aai.tiny.training.clip import DIM, pairs_of
from aai.tiny.training.data import (
    TRAINING_SEED,
    ClipSet,
    SceneSet,
    clip_set,
    scene_set,
)
from aai.tiny.training.diffusion import cached_latents
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.vocabulary import ADVERBS, COMPOSITIONS, PHENOMENA, caption

ALIGNER = LoopOptions(steps=3000, batch=256, learning_rate=1e-3)
MAPPER = LoopOptions(steps=600, batch=64, learning_rate=1.5e-3, weight_decay=1e-3, warmup=10, average=0.98)

_VARIATIONS = 4
"""Times that each training clip is heard, each time through another microphone."""

_NEAR = 0.04
"""Scenes whose intensity is this close to a clip's belong to it."""

_LARGEST_ROW = 1.5
"""Cue rows longer than this many mean words cost something: long rows drown the prompt's other words."""


class Partners:
    """Finds scenes that belong to clips: same phenomenon, near intensity, of one composition."""

    def __init__(self, scenes: SceneSet) -> None:
        self.sorted: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        for composition in COMPOSITIONS[1:]:
            for num, phenomenon in enumerate(PHENOMENA):
                wanted = (composition, phenomenon)
                members = [i for i, s in enumerate(scenes.scenes) if (s.composition, s.phenomenon) == wanted]
                levels = np.array([scenes.scenes[i].intensity for i in members])
                order = np.argsort(levels)
                self.sorted[composition, num] = (np.array(members)[order], levels[order])

    def draw(self, compositions: list[str], phenomena: Tensor, intensities: Tensor, rng: torch.Generator) -> Tensor:
        """One scene for each clip."""
        found = []
        places = torch.rand(len(phenomena), generator=rng).tolist()
        for composition, phenomenon, level, place in zip(
            compositions, phenomena.tolist(), intensities.tolist(), places, strict=True
        ):
            members, levels = self.sorted[composition, phenomenon]
            low, high = np.searchsorted(levels, [level - _NEAR, level + _NEAR])
            low = min(low, len(members) - 1)
            high = max(high, low + 1)
            found.append(members[low + int(place * (high - low))])
        return torch.tensor(np.array(found))


def train_aligner(place: Place) -> None:
    """InfoNCE between clips and scenes where the phenomenon stands alone; CLIP and CLAP are frozen."""
    torch.manual_seed(place.seed + 4)
    clips, heard = _heard(place)
    scenes = scene_set(place.num_scenes, TRAINING_SEED, place.folder)
    seen, partners = embed_scenes(_clip(place), scenes, place), Partners(scenes)
    aligner, scale = Projector(DIM, DIM).to(place.device), nn.ParameterDict({"log": temperature()}).to(place.device)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        version = torch.randint(_VARIATIONS, (batch,), generator=rng)
        names, levels = clips.phenomena[chosen], clips.intensities[chosen]
        pictures = seen[partners.draw(["noun"] * batch, names, levels, rng)].to(place.device)
        aligned = aligner(heard[chosen, version].to(place.device))
        pairs = pairs_of(names, levels) + torch.eye(batch)
        value = contrast(aligned @ pictures.T * scale["log"].exp(), pairs.to(place.device))
        return value, {"loss": value.item()}

    fit("aligner", nn.ModuleDict({"aligner": aligner, "scale": scale}), loss, ALIGNER, place)
    aligner.save(place.folder / "aligner")


def train_mapper(place: Place) -> None:
    """The denoising loss of scenes that belong to a clip, under captions whose subject is the clip's cue.

    Nouns, verbs and adjectives come in equal parts, so that a cue is learned in every way it will be used.
    """
    torch.manual_seed(place.seed + 5)
    clips, heard = _heard(place)
    aligner = Projector.load(place.folder / "aligner").to(place.device)
    with torch.no_grad():
        aligned = aligner(heard.to(place.device))
    scenes, latents = scene_set(place.num_scenes, TRAINING_SEED, place.folder), cached_latents(place)
    partners, diffusion = Partners(scenes), load_diffusion(place.folder / "pipeline", place.device)
    mapper, longest = _new_mapper(diffusion)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        version = torch.randint(_VARIATIONS, (batch,), generator=rng)
        uses = [COMPOSITIONS[1:][i] for i in torch.randint(3, (batch,), generator=rng).tolist()]
        rows = partners.draw(uses, clips.phenomena[chosen], clips.intensities[chosen], rng)
        prompts = [
            caption(use, PLACEHOLDER, scenes.scenes[i].background) for use, i in zip(uses, rows.tolist(), strict=True)
        ]
        timesteps = torch.randint(diffusion.num_train_timesteps, (batch,), generator=rng).to(place.device)
        clean = latents[rows].to(place.device)
        noise = torch.randn(clean.shape, generator=rng).to(place.device)
        cues = mapper(aligned[chosen.to(place.device), version.to(place.device)])
        with place.autocast():
            losses = diffusion.denoising_losses(clean, diffusion.encode_prompts(prompts, cues), timesteps, noise)
        too_long = (cues.norm(dim=-1) / longest - 1).clamp(min=0).square().mean()
        return losses.mean() + 0.1 * too_long, {"loss": losses.mean().item()}

    fit("mapper", nn.ModuleDict({"mapper": mapper}), loss, MAPPER, place)
    mapper.save(place.folder / "mapper")


def _new_mapper(diffusion: Diffusion) -> tuple[CueMapper, float]:
    """A mapper that starts at the mean adverb and the mean phenomenon, and how long a row may be."""
    rows = [diffusion.word_embeddings(names) for names in (ADVERBS, PHENOMENA)]
    mapper = CueMapper(DIM, diffusion.cue_dim, num_rows=len(rows)).to(diffusion.device)
    mapper.start_at(torch.stack([words.mean(0) for words in rows]))
    return mapper, _LARGEST_ROW * float(torch.cat(rows).norm(dim=1).mean())


def _clip(place: Place) -> CLIPModel:
    return CLIPModel.from_pretrained(place.folder / "clip", dtype=torch.float32).to(place.device).eval()


def _heard(place: Place) -> tuple[ClipSet, Tensor]:
    """The training clips and their vectors, clips x variations x dim."""
    clips, path = clip_set(place.num_clips, TRAINING_SEED, place.folder), place.folder / "heard.pt"
    if not path.exists():
        clap = ClapModel.from_pretrained(place.folder / "clap", dtype=torch.float32).to(place.device).eval()
        torch.save(embed_all(clap, clips, place, _VARIATIONS), path)
    return clips, torch.load(path, weights_only=True)


@torch.no_grad()
def embed_scenes(clip: CLIPModel, scenes: SceneSet, place: Place) -> Tensor:
    """Unit vectors of all scenes."""
    parts = []
    for start in range(0, len(scenes), 200):
        pixels = scenes.tensor(torch.arange(start, min(start + 200, len(scenes)))).to(place.device)
        with place.autocast():
            parts.append(clip.get_image_features(pixel_values=pixels).pooler_output.float().cpu())
    return nn.functional.normalize(torch.cat(parts), dim=-1)
