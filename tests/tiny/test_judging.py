"""Scores by the tiny world's judge: right and wrong labels and places, and no opinion about others."""

import numpy as np
import pytest

from aai.metrics import JUDGE_BACKGROUND, JUDGE_INTENSITY, JUDGE_PHENOMENON
from aai.tiny.judge import WEIGHTS
from aai.tiny.judging import TinyJudge
from aai.tiny.scenes import Scene, render

CITY = Scene("verb", "rain", "city", 0.9, 1)
WEAK, STRONG = Scene("noun", "fire", None, 0.1, 2), Scene("noun", "fire", None, 0.9, 2)


@pytest.fixture(scope="module")
def judge() -> TinyJudge:
    return TinyJudge(str(WEIGHTS))


def scores_of(judge: TinyJudge, scene: Scene, prompt: str, labels: list) -> dict[str, float]:
    [picture] = render([scene]).pixels
    return {metric: float(values[0]) for metric, values in judge([picture], [prompt], [labels]).items()}


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        (["rain"], 1.0),
        ([" Rain "], 1.0),
        (["rain", "rain"], 1.0),
        (["fire"], 0.0),
        (["rain", "fire"], np.nan),
        (["hail"], np.nan),
        ([None], np.nan),
        ([""], np.nan),
        ([], np.nan),
    ],
)
def test_the_phenomenon_is_compared_with_the_label_of_all_clips(judge, labels, score):
    found = scores_of(judge, CITY, "a * city", labels)[JUDGE_PHENOMENON]
    assert found == pytest.approx(score, nan_ok=True)


@pytest.mark.parametrize(
    ("prompt", "score"),
    [
        ("a * City, at night", 1.0),
        ("a * forest", 0.0),
        ("a photo of *", np.nan),
        ("a * between city and forest", np.nan),
        ("a * cityscape", np.nan),
    ],
)
def test_the_background_is_compared_with_the_one_that_the_prompt_names(judge, prompt, score):
    found = scores_of(judge, CITY, prompt, ["rain"])[JUDGE_BACKGROUND]
    assert found == pytest.approx(score, nan_ok=True)


def test_a_stronger_phenomenon_has_a_higher_intensity(judge):
    weak, strong = (scores_of(judge, scene, "a *", ["fire"])[JUDGE_INTENSITY] for scene in (WEAK, STRONG))
    assert 0 <= weak < 0.5 < strong <= 1


def test_pictures_of_different_sizes_are_judged_together(judge):
    [small] = render([CITY]).pixels
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    scores = judge([small, large], ["a * city"] * 2, [["rain"]] * 2)
    assert scores[JUDGE_PHENOMENON].tolist() == scores[JUDGE_BACKGROUND].tolist() == [1, 1]
