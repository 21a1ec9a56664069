"""Derived values of the report's contents."""

import pytest

from aai.metrics import Agreement
from aai.report import Cue, Report, ScoreLine


def line(**means: float) -> ScoreLine:
    return ScoreLine("mapper", True, None, 1, means, Agreement())


def report(*lines: ScoreLine) -> Report:
    return Report("bank", "today", [], 0, [], list(lines), [], [], [], [], "tiny")


def test_the_gain_is_the_relative_decrease_of_the_loss():
    assert Cue("adapter", 8, None, 0.2, 0.15, None).gain == pytest.approx(0.25)
    assert Cue("mapper", 0, None, None, None, None).gain is None


def test_metrics_are_those_with_scores_and_registered_ones_come_first():
    metrics = report(line(brightness=0.5, ais_rank=0.5), line(clip_score=1.0)).metrics
    assert [metric.name for metric in metrics] == ["clip_score", "ais_rank", "brightness"]
    assert [metric.label for metric in metrics] == ["CLIPScore", "AIS-rank", "brightness"]
