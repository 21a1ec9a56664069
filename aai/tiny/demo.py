"""The tiny world in one picture: `python -m aai.tiny.demo demo` hears clips, makes cues and renders with them."""

import argparse
import sys
import time
from pathlib import Path

import soundfile
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aai.tiny.judge import load_judge
from aai.tiny.sheets import contact_sheet, spectrogram
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import load_world

_LEVELS = (0.15, 0.85)
_SEED = 2024
_USES = {
    "a photo of *": ("noun", None),
    "a * city": ("verb", "city"),
    "a forest in the style of *": ("adjective", "forest"),
}


def main() -> None:
    """Write clips, render each in three ways, judge the pictures, and say where to look."""
    example = "example: python -m aai.tiny.demo demo"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("folder", type=Path, help="where the clips and the picture go")
    folder = parser.parse_args().folder
    if folder.exists() and not folder.is_dir():
        sys.exit(f"demo: {folder} is a file; name a folder")
    start = time.monotonic()
    clips = [(name, level) for name in PHENOMENA for level in _LEVELS]
    waves = [synthesise(name, level, _SEED + i) for i, (name, level) in enumerate(clips)]
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for (name, level), wave in zip(clips, waves, strict=True):
        soundfile.write(folder / "clips" / f"{name}-{level}.wav", wave, SAMPLE_RATE_HZ)
    world, judge = load_world(), load_judge()
    cues = world.cues(world.hear(waves))
    columns, table = [[spectrogram(wave) for wave in waves]], Table("prompt", "phenomenon right", "strong above weak")
    for prompt, (way, place) in track(_USES.items(), "rendering"):
        assert caption(way, background=place) == prompt
        pixels = world.render([prompt] * len(clips), [_SEED] * len(clips), cues)
        reading = judge.read(pixels)
        right = sum(
            PHENOMENA[min(int(i), len(PHENOMENA) - 1)] == name
            for i, (name, _) in zip(reading.phenomenon.argmax(1), clips, strict=True)
        )
        levels = reading.mean_intensity().view(-1, len(_LEVELS))
        table.add_row(
            prompt, f"{right} of {len(clips)}", f"{int((levels[:, 1] > levels[:, 0]).sum())} of {len(levels)}"
        )
        columns.append(list(pixels))
    num = len(_LEVELS)
    rows = [[picture for column in columns for picture in column[i : i + num]] for i in range(0, len(clips), num)]
    labels = [f"{kind}, {word}" for kind in ("clip", "noun", "verb", "style") for word in ("weak", "strong")]
    contact_sheet(rows, PHENOMENA, labels).save(folder / "sheet.png")
    Console().print(table)
    made = f"{len(clips)} clips, {len(_USES) * len(clips)} pictures in {time.monotonic() - start:.0f} s"
    print(f"{made}: look at {folder / 'sheet.png'}")


if __name__ == "__main__":
    main()
