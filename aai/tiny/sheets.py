"""Contact sheets of the model card: `python -m aai.tiny.sheets docs/pictures`.

scenes.png       ground truth: all backgrounds, and all phenomena from weak to strong
uses.png         ground truth: phenomena as verb and as adjective
tones.png        ground truth: all phenomena from red to blue
generated.png    images generated from text
cues.png         images generated from cues of held-out clips
heard.png        the same for clips that differ in their tone alone
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aai.report import media
from aai.tiny.canvas import SIZE_PX
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.training.data import HELD_OUT_SEED
from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, PHENOMENA, TONES, caption
from aai.tiny.world import World, load_world

_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
_GAP_PX, _HEAD_PX, _LINE_PX, _SIDE_PX, _TEXT_PX = 3, 20, 15, 92, 13


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], row_labels: Sequence[str], column_labels: Sequence[str], scale: int = 2
) -> Image.Image:
    """A grid of images with row and column labels of one or more lines; rows may have different lengths."""
    size = SIZE_PX * scale
    step = size + _GAP_PX
    width = _SIDE_PX + step * max(len(row) for row in rows)
    head = _HEAD_PX + _LINE_PX * max((label.count("\n") for label in column_labels), default=0)
    sheet = Image.new("RGB", (width, head + step * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT_PX)
    for j, label in enumerate(column_labels):
        draw.text((_SIDE_PX + step * j + size / 2, head / 2), label, "black", font, anchor="mm", align="center")
    for i, (row, label) in enumerate(zip(rows, row_labels, strict=True)):
        draw.text((4, head + step * i + size / 2), label, "black", font, anchor="lm")
        for j, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
            sheet.paste(picture, (_SIDE_PX + step * j, head + step * i))
    return sheet


def spectrogram(wave: np.ndarray) -> np.ndarray:
    """The report's log-mel spectrogram of a clip, resized to 64 x 64."""
    spectrogram = Image.fromarray(media.spectrogram(wave, SAMPLE_RATE_HZ))
    return np.asarray(spectrogram.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))


def _grid(pixels: np.ndarray, columns: int) -> list[list[np.ndarray]]:
    return [list(pixels[i : i + columns]) for i in range(0, len(pixels), columns)]


def scenes_sheet() -> Image.Image:
    """All backgrounds, then all phenomena from weak to strong."""
    levels = [float(level) for level in np.linspace(0.02, 0.98, 8)]
    backgrounds = [Scene("background", None, name, 0.0, seed) for name in BACKGROUNDS for seed in range(8)]
    nouns = [Scene("noun", name, None, level, 20 + i) for name in PHENOMENA for i, level in enumerate(levels)]
    rows = _grid(render([*backgrounds, *nouns]).pixels, 8)
    return contact_sheet(rows, [*BACKGROUNDS, *PHENOMENA], [f"{level:.2f}" for level in levels])


def uses_sheet() -> Image.Image:
    """All phenomena as verb and as adjective, weak and strong, on the same backgrounds."""
    rows = []
    for name in PHENOMENA:
        uses = [(use, place, level) for use in ("verb", "adjective") for place in BACKGROUNDS for level in (0.2, 0.9)]
        rows.append(list(render([Scene(use, name, place, level, 7) for use, place, level in uses]).pixels))
    labels = [f"{use[:4]} {level}" for use in ("verb", "adjective") for _ in BACKGROUNDS for level in (0.2, 0.9)]
    return contact_sheet(rows, PHENOMENA, labels, scale=1)


def tones_sheet() -> Image.Image:
    """All phenomena from red to blue: alone, in a city, and as the style of a forest."""
    uses = (("noun", None), ("verb", "city"), ("adjective", "forest"))
    rows = [
        list(render([Scene(use, name, place, 0.7, 7, tone) for use, place in uses for name in PHENOMENA]).pixels)
        for tone in _LEVELS
    ]
    return contact_sheet(rows, [f"{tone:.2f}" for tone in _LEVELS], [name for _ in uses for name in PHENOMENA], scale=1)


def generated_sheet(world: World) -> Image.Image:
    """Images from text: nouns with each adverb, then verbs and adjectives."""
    columns = [caption("noun", f"{word} {{}}") for word in ADVERBS]
    columns += [caption("verb", "{}", "city"), caption("verb", "{}", "mountains")]
    columns += [caption("adjective", "{}", "forest"), caption("adjective", "{}", "desert")]
    columns += [caption("noun", f"{TONES[0]} {{}}"), caption("noun", f"{TONES[-1]} {{}}")]
    prompts = [column.format(name) for name in PHENOMENA for column in columns]
    pixels = world.render(prompts, [i % len(columns) for i in range(len(prompts))])
    labels = [*ADVERBS, "a _ city", "a _ mountains", "forest, style", "desert, style", TONES[0], TONES[-1]]
    return contact_sheet(_grid(pixels, len(columns)), PHENOMENA, labels)


def cues_sheet(world: World, levels: Sequence[float] = (0.1, 0.35, 0.65, 0.9)) -> Image.Image:
    """Held-out clips: spectrogram, and the cue as noun, verb and adjective."""
    clips = [(name, level) for name in PHENOMENA for level in levels]
    waves = [synthesise(name, level, HELD_OUT_SEED * 1000 + i) for i, (name, level) in enumerate(clips)]
    cues = world.cues(world.embed_clips(waves))
    pictures = [[spectrogram(wave) for wave in waves]]
    for use, background in (("noun", None), ("verb", "city"), ("adjective", "forest")):
        prompts = [caption(use, background=background)] * len(clips)
        pictures.append(list(world.render(prompts, [5] * len(clips), cues)))
    num = len(levels)
    rows = [[picture for kind in pictures for picture in kind[i : i + num]] for i in range(0, len(clips), num)]
    labels = [f"{kind} {level}" for kind in ("clip", "noun", "verb", "adj.") for level in levels]
    return contact_sheet(rows, PHENOMENA, labels, scale=1 if num > 2 else 2)


def heard_sheet(world: World) -> Image.Image:
    """Clips that differ in their tone alone: spectrogram, and the cue as noun and verb."""
    kinds = [(name, tone) for name in PHENOMENA for tone in _LEVELS]
    seed = HELD_OUT_SEED * 1000 + 500
    waves = [synthesise(name, 0.7, seed + PHENOMENA.index(name), tone) for name, tone in kinds]
    cues, num = world.cues(world.embed_clips(waves)), len(_LEVELS)
    pictures = [[spectrogram(wave) for wave in waves]]
    for use, background in (("noun", None), ("verb", "city")):
        pictures.append(list(world.render([caption(use, background=background)] * len(waves), [5] * len(waves), cues)))
    rows = [[picture for kind in pictures for picture in kind[i : i + num]] for i in range(0, len(waves), num)]
    return contact_sheet(
        rows, PHENOMENA, [f"{kind} {tone}" for kind in ("clip", "noun", "verb") for tone in _LEVELS], 1
    )


def main() -> None:
    """Write all contact sheets."""
    example = "example: python -m aai.tiny.sheets docs/pictures"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("folder", type=Path, help="output folder")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    scenes_sheet().save(folder / "scenes.png", optimize=True)
    uses_sheet().save(folder / "uses.png", optimize=True)
    tones_sheet().save(folder / "tones.png", optimize=True)
    generated_sheet(load_world()).save(folder / "generated.png", optimize=True)
    cues_sheet(load_world()).save(folder / "cues.png", optimize=True)
    heard_sheet(load_world()).save(folder / "heard.png", optimize=True)


if __name__ == "__main__":
    main()
