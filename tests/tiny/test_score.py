"""The evaluation script and its targets."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from aai.tiny import score
from aai.tiny.judge import load_judge
from aai.tiny.score import Bench, Figure, score_recordings
from aai.tiny.world import load_world

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "esc10"


def test_targets_are_minima_or_maxima():
    assert Figure("x", 0.99, 0.98, 1).reached
    assert not Figure("x", 0.97, 0.98, 1).reached
    assert Figure("error", 0.05, 0.06, 1, lower_is_better=True).reached


def test_the_command_prints_and_writes_the_results(tmp_path, monkeypatch, capsys):
    path = tmp_path / "scores.json"
    monkeypatch.setattr(sys, "argv", ["score", "--parts", "judge", "vae", "--share", "0.1", "--json", str(path)])
    with pytest.raises(SystemExit) as stop:
        score.main()
    figures = json.loads(path.read_text())
    assert len(figures) == 6
    assert stop.value.code == (not all(figure["reached"] for figure in figures))
    assert "VAE reconstruction" in capsys.readouterr().out
    assert all(np.isfinite(figure["value"]) for figure in figures)


def test_a_folder_without_recordings_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["score", "--recordings", str(tmp_path)])
    with pytest.raises(SystemExit, match="sea_waves"):
        score.main()


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="ESC-10 is not available")
def test_real_recordings_retrieve_scenes_of_their_phenomenon():
    (figure,) = score_recordings(Bench(load_world(), load_judge()), RECORDINGS)
    assert figure.num == 160
    assert figure.value >= 0.7
