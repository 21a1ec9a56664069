"""The page of a comparison: user texts are escaped, missing parts are said, and plots are in their boxes."""

import re
from dataclasses import replace

import pytest

from aai.report import Sound, Thumb
from aai.report.comparison import (
    ClipRow,
    ComparisonPage,
    FigureCell,
    FigureRow,
    MethodPictures,
    Shown,
    comparison_page,
)
from aai.report.plots import HEIGHT, WIDTH, Plot, Series

EVIL = "<script>alert(1)</script>'\"{{ 7 * 7 }}"


def plot() -> Plot:
    series = {
        "mapper": Series([(0.1, 0.2), (0.9, 0.8), (float("nan"), 0.5)], line=((0.0, 0.1), (1.0, 0.9))),
        EVIL: Series([(0.5, 0.5)], bars=[(0.5, 0.4, 0.6)]),
    }
    drawn = Plot.of("heard and seen", "heard", "seen", series, square=(0.0, 1.0))
    assert drawn is not None
    return drawn


def full(text: str) -> ComparisonPage:
    """A page in which every text that users control is `text`."""
    shown = [Shown(Thumb(text, src="data:,"), [("CLIPScore", "0.50")]), Shown(Thumb(text, problem=text), [])]
    methods = [MethodPictures(text, shown, 3), MethodPictures("label", [], 0)]
    values = {text: {"clip_score": 0.5}, "label": {"clip_score": 0.25}}
    rows = [
        ClipRow("abc", text, text, [("intensity", "0.50")], Sound("data:,"), [(text, methods)], values),
        ClipRow("def", None, text, [], Sound(problem=text), [(text, methods)], {}),
    ]
    cell = FigureCell("0.950", "0.900 to 0.980", "+0.100 (+0.050 to +0.150)", True, True)
    figures = [
        FigureRow("phenomenon ↑", "accuracy", True, [cell, None]),
        FigureRow("KID ↓", "distance", False, [cell, cell]),
    ]
    return ComparisonPage(
        name=text, created_at="today", reference=text, methods=[(text, text, "0.003"), ("label", "plain model", "0")],
        tables=[(text, figures)], plots=[plot()], rows=rows, num_clips=2, notes=[text],
        metrics=[("clip_score", "CLIPScore")],
    )  # fmt: skip


def test_user_texts_are_escaped():
    html = comparison_page(full(EVIL))
    assert "alert(1)" in html and "{{ 7 * 7 }}" in html
    assert html.count("<script>") == 1


def test_figures_have_intervals_and_differences_and_say_what_is_not_independent():
    html = comparison_page(full("mapper"))
    assert (
        "0.900 to 0.980" in html
        and 'class="significant"><span class="whole">+0.100' in html
        and 'class="best">0.950' in html
    )
    assert html.count("not independent</span>") == 1


def test_missing_pictures_and_sounds_are_said():
    html = comparison_page(full("a reason"))
    assert "No audio: <bdi>a reason</bdi>" in html and "no picture" in html and "and 3 more" in html
    assert "None: the judge reads no degree" in comparison_page(replace(full("x"), plots=[]))


def test_points_lines_and_bars_are_inside_the_plot():
    drawn = plot()
    assert [len(own.points) for own in drawn.series] == [2, 1]  # an undefined point is left out
    points = [point for own in drawn.series for point in own.points] + [*(drawn.diagonal or ())]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in points)
    [(_, low, high)] = drawn.series[1].bars
    assert low > high  # pixels count from the top


def test_lines_end_where_the_square_does():
    steep = Series([(0.5, 0.5)], line=((0.0, -0.5), (1.0, 1.5)))
    [own] = Plot.of("t", "x", "y", {"a": steep}, square=(0.0, 1.0)).series
    diagonal = Plot.of("t", "x", "y", {"a": Series([(0.5, 0.5)])}, square=(0.0, 1.0)).diagonal
    assert [y for _, y in own.line] == [y for _, y in diagonal]
    assert diagonal[0][0] < own.line[0][0] < own.line[1][0] < diagonal[1][0]


def test_counts_are_ticks_themselves_and_long_labels_do_not_overlap():
    counted = Plot.of("t", "n", "y", {"a": Series([(1.0, 0.5), (5.0, 0.6), (20.0, 0.7)])})
    assert [label for _, label in counted.x_ticks] == ["1", "5", "20"]
    timed = Plot.of("t", "s", "y", {"a": Series([(0.000116, 0.5), (0.000188, 0.6)])})
    assert [label for _, label in timed.x_ticks] == ["0.00012", "0.00014", "0.00016", "0.00018"]


def test_an_axis_of_names_has_each_and_ten_series_have_a_colour_each():
    names = ["mapper", "a method with a long name", *(f"method {number}" for number in range(9))]
    series = {name: Series([(float(number), 1.0)]) for number, name in enumerate(names, start=1)}
    drawn = Plot.of("t", "method", "y", series, x_names=names)
    assert [x for x, _ in drawn.x_ticks] == [pytest.approx(own.points[0][0], abs=0.1) for own in drawn.series]
    assert [label for _, label in drawn.x_ticks][:3] == ["mapper", "a method with…", "method 0"]
    html = comparison_page(replace(full("x"), plots=[drawn]))
    used = re.findall(r'<g class="(series-[^"]*)"', html)
    assert len(set(used)) == len(names) and used[10] == "series-0 again"


def test_a_logarithmic_axis_has_room_for_zero_and_no_points_make_no_plot():
    drawn = Plot.of(
        "t", "s", "q", {"a": Series([(0.0, 1.0)]), "b": Series([(0.01, 2.0)]), "c": Series([(6.0, 3.0)])}, log_x=True
    )
    assert drawn is not None
    xs = [own.points[0][0] for own in drawn.series]
    assert xs == sorted(xs) and xs[0] > 0 and [label for _, label in drawn.x_ticks] == ["0", "0.01", "0.1", "1"]
    assert Plot.of("t", "x", "y", {"a": Series([(float("nan"), 1.0)])}) is None


def test_the_policy_allows_only_the_pages_own_script():
    html = comparison_page(full("x"))
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy and policy.count("sha256-") == 2


@pytest.mark.parametrize("num", [1, 2])
def test_a_single_point_is_drawn(num):
    drawn = Plot.of("t", "x", "y", {"a": Series([(1.0, 1.0)] * num)})
    assert drawn is not None and len(drawn.series[0].points) == num


def test_clips_are_sorted_by_the_difference_of_another_method_from_the_reference():
    assert full("mapper").first_other == "label"
    assert replace(full("mapper"), methods=[("mapper", "", "")]).first_other == "mapper"
