"""A small collection of sounds and pictures on disk, whose truth is known."""

from pathlib import Path

import soundfile

from aai.media.images import encode
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise

CLIPS = {f"{name}-{level}": (name, level) for name in ("rain", "fire") for level in (0.2, 0.9)}
NUM_CLIPS, NUM_IMAGES = len(CLIPS), 12


def write_collection(folder: Path) -> Path:
    """Folders `sounds` and `images`, and `said.csv` with labels and intensities."""
    (folder / "sounds").mkdir(parents=True)
    (folder / "images").mkdir()
    lines = ["file,label,intensity"]
    for number, (name, (phenomenon, level)) in enumerate(CLIPS.items()):
        wave = synthesise(phenomenon, level, 700 + number)
        soundfile.write(folder / "sounds" / f"{name}.flac", wave, SAMPLE_RATE_HZ)
        lines.append(f"{name}.flac,{phenomenon},{level}")
    scenes = [Scene("noun", name, None, i / 5, i) for name in ("rain", "fire") for i in range(NUM_IMAGES // 2)]
    for number, (scene, pixels) in enumerate(zip(scenes, render(scenes).pixels, strict=True)):
        (folder / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))
        lines.append(f"{number}.png,{scene.phenomenon},{scene.intensity}")
    (folder / "said.csv").write_text("\n".join(lines) + "\n")
    return folder
