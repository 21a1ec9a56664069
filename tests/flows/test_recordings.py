"""Recordings of the real world beside pictures of the tiny one: every clip gets a cue."""

from pathlib import Path

import pytest

from aai.media.images import encode
from aai.tiny.scenes import render, sample_scenes
from flows.steps import build
from tasks.runtime.config import make_config
from tasks.runtime.run import open_run

RECORDINGS = Path(__file__).parents[3] / "shared/data/esc10"
CLASSES = ("fire_crackling", "rain", "sea_waves", "helicopter", "clock_tick")
PER_CLASS, NUM_IMAGES = 8, 60

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs the recordings of ESC-10")


def test_every_recording_gets_a_cue(tmp_path):
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(render(sample_scenes(NUM_IMAGES, 77)).pixels):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))
    files = [path for name in CLASSES for path in sorted((RECORDINGS / name).iterdir())[:PER_CLASS]]
    places = {"audio": [str(path) for path in files], "images": str(tmp_path / "images")}
    quick = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    run = open_run(make_config(workspace=str(tmp_path / "bank"), **places, **quick))
    done = {each.stage: each for each in build(run)}
    clips, cues = (run.workspace.table(name).read().to_pylist() for name in ("clips", "cues"))
    assert {row["uri"] for row in clips} == set(places["audio"])
    assert {row["clip_id"] for row in clips} == {row["clip_id"] for row in cues}
    assert not any(each.rejected for each in done.values())
