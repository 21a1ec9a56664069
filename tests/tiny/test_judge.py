"""The judge's accuracy, confidences and error messages."""

import sys

import numpy as np
import pytest
from PIL import Image

from aai.tiny import judge
from aai.tiny.judge import judge_files, load_judge, verdicts
from aai.tiny.scenes import Scene, render, sample_scenes


def test_the_judge_is_accurate_on_ground_truth():
    scenes = sample_scenes(200, seed=123)
    predictions = verdicts(load_judge().read(render(scenes).pixels))
    assert np.mean([f.phenomenon == s.phenomenon for f, s in zip(predictions, scenes, strict=True)]) >= 0.98
    assert np.mean([f.background == s.background for f, s in zip(predictions, scenes, strict=True)]) >= 0.98
    assert np.mean([f.composition == s.composition for f, s in zip(predictions, scenes, strict=True)]) >= 0.98
    errors = [
        abs(f.intensity - s.intensity) for f, s in zip(predictions, scenes, strict=True) if f.intensity is not None
    ]
    assert np.mean(errors) < 0.06


def test_confidence_is_a_probability_and_falls_with_noise():
    pixels = render(sample_scenes(60, seed=9)).pixels
    noisy = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    clear, unclear = (
        [v.confidence["phenomenon"] for v in verdicts(load_judge().read(p))] for p in (pixels, pixels // 2 + noisy // 2)
    )
    assert all(0 <= value <= 1 for value in [*clear, *unclear])
    assert np.mean(clear) > np.mean(unclear)


def test_files_of_any_size_are_classified(tmp_path):
    picture = Image.fromarray(render([Scene("verb", "clock", "desert", 0.8, 1)]).pixels[0])
    picture.resize((200, 200)).save(tmp_path / "clock.jpg", quality=95)
    verdict = judge_files([tmp_path / "clock.jpg"])[0]
    assert (verdict.phenomenon, verdict.background, verdict.composition) == ("clock", "desert", "verb")


@pytest.mark.parametrize("content", [None, b"this is text"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.png"):
        judge_files([path])


def test_the_command_prints_a_table(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rain.png"
    Image.fromarray(render([Scene("noun", "rain", None, 0.9, 2)]).pixels[0]).save(path)
    monkeypatch.setattr(sys, "argv", ["judge", str(path)])
    judge.main()
    out = capsys.readouterr().out
    assert "rain.png" in out and "noun" in out
