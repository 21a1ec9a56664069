"""Recordings of the real world beside pictures of the tiny one: every clip gets a cue."""

from pathlib import Path

import pytest

from aai.media.images import encode
from aai.tiny.scenes import render, sample_scenes
from flows.steps import build
from tasks.stages import make_config, open_run

RECORDINGS = Path(__file__).parents[3] / "shared/data/esc10"
CLASSES = ("fire_crackling", "rain", "sea_waves", "helicopter", "clock_tick")
PER_CLASS, NUM_IMAGES = 3, 20

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs the recordings of ESC-10")


def test_every_recording_gets_a_cue(tmp_path):
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(render(sample_scenes(NUM_IMAGES, 77)).pixels):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))
    files = [path for name in CLASSES for path in sorted((RECORDINGS / name).iterdir())[:PER_CLASS]]
    locations = {"audio": [str(path) for path in files], "images": str(tmp_path / "images")}
    quick = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    run = open_run(make_config(workspace=str(tmp_path / "bank"), **locations, **quick))
    done = build(run)
    with run.query() as query:
        clips = query.table("SELECT clip_id, uri FROM present_clips").to_pylist()
    assert {row["uri"] for row in clips} == set(locations["audio"])
    assert {row["clip_id"] for row in clips} == set(run.workspace.table("cues").ids(run.recipe("cues")).to_pylist())
    assert not any(summary.rejected for summary in done)
