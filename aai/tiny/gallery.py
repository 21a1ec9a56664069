"""Images of docs/GALLERY.md: `python -m aai.tiny.gallery docs/pictures`.

edits.webp       generated source images, their edits, differences and edit masks
photos.webp      the same for ground-truth scenes as photos
photo.webp       one row of photos.webp
degrees.webp     one prompt and one seed with eight clips of increasing intensity
styles.webp      scenes stylised by weak and strong clips
blends.webp      interpolation between the cues of two clips, in eight steps

Clips, scenes and seeds are held out from training, and not selected.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from aai.cues.interpolate import between
from aai.edit.composite import finish
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import STYLISED, EditOptions
from aai.edit.trajectories import InversionCache
from aai.models.options import RenderOptions
from aai.tiny.canvas import SIZE_PX
from aai.tiny.scenes import Scene, render
from aai.tiny.sheets import contact_sheet, spectrogram
from aai.tiny.sounds import synthesise
from aai.tiny.training.data import HELD_OUT_SEED
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption
from aai.tiny.world import RENDER, World, load_world

_SEED, _NUM, _QUALITY = HELD_OUT_SEED * 2_000, 8, 80
_LEVELS = [float(level) for level in np.linspace(0.05, 0.95, _NUM)]
_PAIRS = (("waterfall", "waterfall"), ("fire", "fire"), ("rain", "snow"), ("waves", "fire"), ("thunder", "fireworks"))
_STRONG, _BEST = 0.8, ("waves",)


def clips_of(kinds: Sequence[tuple[str, float]]) -> list[np.ndarray]:
    """Held-out clips, each a phenomenon and its intensity."""
    return [synthesise(name, level, _SEED + number) for number, (name, level) in enumerate(kinds)]


def edits_of(
    world: World, way: str, kinds: Sequence[tuple[str, float, str]], photos: bool, options: RenderOptions = RENDER
) -> tuple[EditResult, np.ndarray]:
    """Composited edits, and their source images; `kinds` are phenomenon, intensity and background."""
    edit = EditOptions(**STYLISED) if way == "adjective" else EditOptions()
    editor, places = Editor(world.diffusion, options, edit), [place for _, _, place in kinds]
    wanted = EditRequest(
        [caption("background", background=place) for place in places],
        [caption(way, background=place) for place in places],
        [_SEED + BACKGROUNDS.index(place) for place in places],
        world.cues(world.embed_clips(clips_of([(name, level) for name, level, _ in kinds]))),
        [""] * len(kinds),
    )
    if photos:
        scenes = [Scene("background", None, place, 0.0, _SEED + number) for number, place in enumerate(BACKGROUNDS)]
        of = [BACKGROUNDS.index(place) for place in places]
        pixels = render(scenes).pixels
        made = editor.from_photos(wanted, Photos(pixels, list(BACKGROUNDS), of), InversionCache())
        sources = pixels[of]
    else:
        made = editor.from_prompts(wanted)
        sources = made.sources
    whole = [finish(*each, edit) for each in zip(sources, made.pictures, made.sources, made.masks, strict=True)]
    return EditResult(np.stack(whole), sources, made.masks), sources


def _mask_image(mask: np.ndarray) -> np.ndarray:
    """A mask as an image, white on black."""
    levels = Image.fromarray((mask * 255).astype(np.uint8)).resize((SIZE_PX, SIZE_PX), Image.Resampling.NEAREST)
    return np.repeat(np.asarray(levels)[..., None], 3, axis=2)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Absolute difference of two images, doubled: white is half of the range or more."""
    return np.clip(2 * np.abs(first.astype(int) - second), 0, 255).astype(np.uint8)


def edit_rows(world: World, photos: bool) -> list[list[np.ndarray]]:
    """Source, edit, difference and mask of each phenomenon on two backgrounds."""
    places = [(BACKGROUNDS[number % 5], BACKGROUNDS[(number + 2) % 5]) for number in range(len(PHENOMENA))]
    kinds = [(name, _STRONG, place) for name, both in zip(PHENOMENA, places, strict=True) for place in both]
    made, sources = edits_of(world, "verb", kinds, photos)
    parts = [
        [source, edit, difference(source, edit), _mask_image(mask)]
        for source, edit, mask in zip(sources, made.pictures, made.masks, strict=True)
    ]
    return [parts[at] + parts[at + 1] for at in range(0, len(parts), 2)]


def edits_sheet(rows: list[list[np.ndarray]], names: Sequence[str], source: str) -> Image.Image:
    """Contact sheet of `edit_rows` for some phenomena."""
    chosen = [rows[PHENOMENA.index(name)] for name in names]
    return contact_sheet(chosen, names, [source, "edit", "difference", "mask"] * 2)


def degrees_sheet(world: World) -> Image.Image:
    """One prompt and one seed with clips of increasing intensity."""
    rows = []
    for name in PHENOMENA:
        waves = clips_of([(name, level) for level in _LEVELS])
        pictures = world.render([caption("noun")] * _NUM, [_SEED] * _NUM, world.cues(world.embed_clips(waves)))
        rows += [[spectrogram(wave) for wave in waves], list(pictures)]
    labels = [label for name in PHENOMENA for label in ("", name)]
    return contact_sheet(rows, labels, [f"{level:.2f}" for level in _LEVELS])


def styles_sheet(world: World) -> Image.Image:
    """A photo of each background, stylised by a weak and a strong clip of each phenomenon."""
    rows = []
    for name in PHENOMENA:
        kinds = [(name, level, place) for place in BACKGROUNDS for level in (0.2, 0.9)]
        rows.append(list(edits_of(world, "adjective", kinds, photos=True)[0].pictures))
    scenes = [Scene("background", None, place, 0.0, _SEED + number) for number, place in enumerate(BACKGROUNDS)]
    photos = [pixels for pixels in render(scenes).pixels for _ in range(2)]
    labels = [f"{place}, {level}" for place in BACKGROUNDS for level in ("weak", "strong")]
    return contact_sheet([photos, *rows], ["photo", *PHENOMENA], labels)


def blends_sheet(world: World) -> Image.Image:
    """Cue interpolation from a weak to a strong clip, and from one phenomenon to another."""
    dims, rows = world.diffusion.cue_dims, []
    for start, end in _PAIRS:
        levels = (0.05, 0.95) if start == end else (_STRONG, _STRONG)
        first, last = world.cues(world.embed_clips(clips_of(list(zip((start, end), levels, strict=True)))))
        cues = torch.stack([between(first, last, at, dims) for at in np.linspace(0, 1, _NUM).tolist()])
        rows.append(list(world.render([caption("noun")] * _NUM, [_SEED] * _NUM, cues)))
    labels = [f"to {end}" if start != end else start for start, end in _PAIRS]
    return contact_sheet(rows, labels, [f"{at}/{_NUM - 1}" for at in range(_NUM)])


def main() -> None:
    """Write all images of the gallery."""
    example = "example: python -m aai.tiny.gallery docs/pictures"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("folder", type=Path, help="output folder")
    folder, world = parser.parse_args().folder, load_world()
    folder.mkdir(parents=True, exist_ok=True)
    of_photos = edit_rows(world, photos=True)
    for name, sheet in (
        ("edits", edits_sheet(edit_rows(world, photos=False), PHENOMENA, "source")),
        ("photos", edits_sheet(of_photos, PHENOMENA, "photo")),
        ("photo", edits_sheet(of_photos, _BEST, "photo")),
        ("degrees", degrees_sheet(world)),
        ("styles", styles_sheet(world)),
        ("blends", blends_sheet(world)),
    ):
        sheet.save(folder / f"{name}.webp", quality=_QUALITY, method=6)


if __name__ == "__main__":
    main()
