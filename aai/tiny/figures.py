"""The paper's figures, in the tiny world: `python -m aai.tiny.figures docs/pictures/paper`.

generation.webp   a clip of each phenomenon: its cue as noun, verb and adjective
edits.webp        photos, edited with the cue of a clip: what changed
styles.webp       photos, stylised with the cue of a clip
degrees.webp      weak and strong clips of one label, with the same seeds
audio.webp        with and without audio: the cue of the sound, the label in its place, and a cue that has heard nothing

Rows are clips, and their first column is the spectrogram of the sound. Clips, photos and seeds are held out from
training, and not selected.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aai.cues.denoising import ClipToFit
from aai.cues.fit import Fitter, FreeCue
from aai.cues.options import FitOptions
from aai.tiny.gallery import clips_of, difference, edits_of
from aai.tiny.scenes import Scene, render
from aai.tiny.sheets import contact_sheet, spectrogram
from aai.tiny.training.data import HELD_OUT_SEED
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import RENDER, World, load_world

_SEED, _QUALITY = HELD_OUT_SEED * 3_000, 80
_OPTIONS = RENDER.model_copy(update={"steps": 16})
_WEAK, _STRONG = 0.15, 0.85
_FEW, _OTHERS = PHENOMENA[::2], PHENOMENA[1::2]
_PLACES = ("city", "desert")
_NUM_IMAGES, _NUM_TOKENS = 5, 2
_INVERSION = FitOptions(method="inversion", steps=48, learning_rate=0.1, prior_weight=0.0)
"""As the method `without-ear` of `aai evaluate`."""

Row = list[np.ndarray]


def generation_sheet(world: World, names: Sequence[str] = PHENOMENA) -> Image.Image:
    """A clip of each phenomenon, and its cue in four prompts under one seed."""
    prompts = [
        caption("noun"),
        *(caption("verb", background=place) for place in ("city", "mountains")),
        caption("adjective", background="forest"),
    ]
    waves = clips_of([(name, _STRONG) for name in names])
    rows = _rows(waves, _rendered(world, prompts, _cues(world, waves)))
    return contact_sheet(rows, names, ["sound", *map(_two_lines, prompts)])


def edits_sheet(world: World, names: Sequence[str] = _FEW) -> Image.Image:
    """Photos, edited with clips: photo, edit and difference for each place."""
    columns = _of_photos(world, "verb", names)
    parts = [[*pair, difference(*pair)] for pair in columns]
    heads = [head for place in _PLACES for head in ("photo", caption("verb", background=place), "difference")]
    return _photo_sheet(names, parts, heads)


def styles_sheet(world: World, names: Sequence[str] = _FEW) -> Image.Image:
    """Photos, stylised with clips."""
    heads = [head for place in _PLACES for head in ("photo", _two_lines(caption("adjective", background=place)))]
    return _photo_sheet(names, [list(pair) for pair in _of_photos(world, "adjective", names)], heads)


def degrees_sheet(world: World, names: Sequence[str] = _OTHERS) -> Image.Image:
    """A weak and a strong clip of each label, under the same two seeds."""
    waves = clips_of([(name, level) for name in names for level in (_WEAK, _STRONG)])
    prompts, cues = [caption("noun")], _cues(world, waves)
    first, second = (_rendered(world, prompts, cues, _SEED + seed) for seed in range(2))
    rows = _rows(waves, [[*one, *other] for one, other in zip(first, second, strict=True)])
    heads = [f"{level}\n{what}" for level in ("weak", "strong") for what in ("sound", "seed 1", "seed 2")]
    return contact_sheet([rows[at] + rows[at + 1] for at in range(0, len(rows), 2)], names, heads)


def audio_sheet(world: World, names: Sequence[str] = PHENOMENA[::4]) -> Image.Image:
    """Weak and strong clips: pictures from the cue of the sound, from the label, and from a cue without ear."""
    kinds = [(name, level) for name in names for level in (_WEAK, _STRONG)]
    waves, templates = clips_of(kinds), [caption("noun"), caption("verb", background="city")]
    heard, deaf = _rendered(world, templates, _cues(world, waves)), _rendered(world, templates, deaf_cues(world, kinds))
    plain = [
        list(world.render([text.replace("*", name) for text in templates], [_SEED] * len(templates), None, _OPTIONS))
        for name, _ in kinds
    ]
    by_clip = zip(heard, plain, deaf, strict=True)
    rows = _rows(waves, [[own[use] for use in range(len(templates)) for own in each] for each in by_clip])
    heads = [f"{text}\n{what}" for text in templates for what in ("cue of the sound", "label", "cue without ear")]
    labels = [f"{name}\n{'weak' if level == _WEAK else 'strong'}" for name, level in kinds]
    return contact_sheet(rows, labels, ["sound", *heads])


def deaf_cues(world: World, kinds: Sequence[tuple[str, float]]) -> Tensor:
    """Textual inversion on images of each clip's label, whatever their intensity: cues that have heard nothing."""
    rng = np.random.default_rng(_SEED)
    scenes = [
        Scene("noun", name, None, float(rng.random()), _SEED + number * _NUM_IMAGES + index)
        for number, (name, _) in enumerate(kinds)
        for index in range(_NUM_IMAGES)
    ]
    pixels = torch.from_numpy(render(scenes).pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        latents = world.diffusion.encode_images(pixels).split(_NUM_IMAGES)
    nothing, ids = torch.zeros(world.images.dim), tuple(map(str, range(_NUM_IMAGES)))
    clips = [ClipToFit(str(number), nothing, own.clone(), ids) for number, own in enumerate(latents)]
    start = world.diffusion.word_embeddings(PHENOMENA).mean(0, keepdim=True).float().expand(_NUM_TOKENS, -1).clone()
    found = {cue.clip_id: cue.vector for cue in Fitter(world.diffusion, FreeCue(start), _INVERSION, _SEED).fit(clips)}
    return torch.stack([found[clip.clip_id] for clip in clips])


def _cues(world: World, waves: Sequence[np.ndarray]) -> Tensor:
    return world.cues(world.embed_clips(waves))


def _rendered(world: World, prompts: Sequence[str], cues: Tensor, seed: int = _SEED) -> list[Row]:
    """A picture of each cue in each prompt, by cue."""
    num = len(prompts)
    pictures = world.render([*prompts] * len(cues), [seed] * num * len(cues), cues.repeat_interleave(num, 0), _OPTIONS)
    return [list(pictures[at : at + num]) for at in range(0, len(pictures), num)]


def _rows(waves: Sequence[np.ndarray], pictures: Sequence[Row]) -> list[Row]:
    return [[spectrogram(wave), *own] for wave, own in zip(waves, pictures, strict=True)]


def _of_photos(world: World, way: str, names: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Photo and edit of each clip and place."""
    kinds = [(name, _STRONG, place) for name in names for place in _PLACES]
    made, photos = edits_of(world, way, kinds, photos=True, options=_OPTIONS)
    return list(zip(photos, made.pictures, strict=True))


def _photo_sheet(names: Sequence[str], parts: Sequence[Row], heads: Sequence[str]) -> Image.Image:
    """Rows of clips with the parts of each place side by side; each place has a clip of its own."""
    num = len(_PLACES)
    waves = clips_of([(name, _STRONG) for name in names for _ in _PLACES])
    with_sounds = _rows(waves, parts)
    rows = [sum(with_sounds[at : at + num], []) for at in range(0, len(parts), num)]
    per_place = len(heads) // num
    columns = [head for at in range(num) for head in ("sound", *heads[at * per_place : (at + 1) * per_place])]
    return contact_sheet(rows, names, columns)


def _two_lines(prompt: str) -> str:
    """A prompt whose second half is on a second line, if it is long."""
    words = prompt.split()
    middle = (len(words) + 1) // 2
    return prompt if len(prompt) < 18 else f"{' '.join(words[:middle])}\n{' '.join(words[middle:])}"


_SHEETS = {
    "generation": generation_sheet,
    "edits": edits_sheet,
    "styles": styles_sheet,
    "degrees": degrees_sheet,
    "audio": audio_sheet,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figures."""
    example = "example: python -m aai.tiny.figures docs/pictures/paper"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("folder", type=Path, help="output folder")
    parser.add_argument("--only", choices=_SHEETS, help="one of the figures")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in [chosen.only] if chosen.only else _SHEETS:
        _SHEETS[name](load_world()).save(chosen.folder / f"{name}.webp", quality=_QUALITY, method=6)


if __name__ == "__main__":
    main()
