"""Judges are found by their entry points, so that another package can bring its own."""

import sys
from pathlib import Path

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.models.judge import Judge, load_judge
from aai.profiles import PROFILES, JudgeName
from tests.bank import run_on

TINY = PROFILES["tiny"]["models"]["judge"]
MODULE = """
import numpy as np

class Brightness:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, pictures, prompts, labels):
        return {"brightness": np.array([picture.mean() / 255 for picture in pictures])}
"""


def install(folder: Path) -> None:
    """A package with a judge of its own."""
    (folder / "brightness.py").write_text(MODULE)
    (folder / "brightness-1.0.dist-info").mkdir()
    (folder / "brightness-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n"
    )
    (folder / "brightness-1.0.dist-info" / "entry_points.txt").write_text(
        "[aai.judges]\nbrightness = brightness:Brightness\n"
    )


def test_the_judge_of_the_tiny_world_is_one():
    assert isinstance(load_judge(JudgeName(**TINY)), Judge)


def test_a_judge_of_another_package_is_found_by_its_kind(tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    judge = load_judge(JudgeName(kind="brightness", folder="/weights"))
    assert judge.folder == "/weights" and isinstance(judge, Judge)
    scores = judge([np.full((2, 2, 3), 51, np.uint8)], ["a photo of *"], [["rain"]])
    assert scores["brightness"].tolist() == [0.2]
    sys.modules.pop("brightness")


def test_a_kind_that_no_package_provides_is_refused_before_any_stage(tmp_path):
    with pytest.raises(BadConfig, match="no installed package provides the judge 'none': choose from .*tiny") as error:
        load_judge(JudgeName(kind="none", folder="/weights"))
    with pytest.raises(BadConfig, match="no installed package provides the judge 'none'"):
        run_on(tmp_path, models={"judge": {"kind": "none", "folder": TINY["folder"]}}).check_models()
    assert error.value.key == "models.judge.kind"


def test_a_folder_without_a_judge_is_refused(tmp_path):
    with pytest.raises(BadConfig) as error:
        load_judge(JudgeName(kind="tiny", folder=str(tmp_path)))
    assert error.value.key == "models.judge" and str(tmp_path) in str(error.value)
