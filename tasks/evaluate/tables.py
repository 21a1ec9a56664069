"""The figures of a comparison as tables: a row per figure, a column per method."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aai.metrics import DEGREES, METRICS
from tasks.evaluate.figures import MEAN, PARTS, Figure, title_of

_ARROWS = {"up": "↑", "down": "↓", "truth": ""}
ARROWS_EXPLAINED = "↑: higher is better; ↓: lower is better"
_JUDGE_EXPLAINED = "The judge is a model that reads off a picture what it shows, and how strongly"
NOT_INDEPENDENT = "not independent"
_EXPLAINED = f"{NOT_INDEPENDENT}: measured by the encoder that retrieved the images, which agrees with itself"
_SIGNS = re.compile(r"([\\`*_\[\]<>|~])")


@dataclass(frozen=True)
class Line:
    """A row of a table: a figure of each method; none where a method lacks it."""

    title: str
    help: str
    is_independent: bool
    figures: Sequence[Figure | None]


def lines_of(figures: Sequence[Figure], methods: Sequence[str], prompt: str | None = None) -> list[Line]:
    """The rows of a table, for one prompt or for all together; without those that are undefined for all methods."""
    by_key: dict[tuple[str, str], dict[str, Figure]] = {}
    for figure in figures:
        if figure.prompt == prompt:
            by_key.setdefault((figure.metric, figure.part), {})[figure.method] = figure
    found = []
    for (metric, part), own in by_key.items():
        if all(math.isnan(figure.value) for figure in own.values()):
            continue
        arrow = _ARROWS[METRICS[metric].direction] if part == MEAN else ""
        is_independent = all(figure.is_independent for figure in own.values())
        title = f"{title_of(metric, part)} {arrow}".strip()
        found.append(Line(title, help_of(metric, part), is_independent, [own.get(method) for method in methods]))
    return found


def help_of(metric: str, part: str) -> str:
    """What a figure means."""
    if part == MEAN:
        return METRICS[metric].help
    return f"{DEGREES[metric].truth} that the judge reads off the images: {PARTS[part]}"


def markdown(
    figures: Sequence[Figure], methods: Sequence[str], reference: str, prompts: Sequence[str], notes: Sequence[str]
) -> str:
    """All tables, and what they mean."""
    parts = []
    for prompt in [None, *(prompts if len(prompts) > 1 else ())]:
        name = "All prompts" if prompt is None and len(prompts) > 1 else code(prompt or prompts[0])
        lines = lines_of(figures, methods, prompt)
        parts += [f"## {name}", "", _markdown_table(lines, methods, _with_interval), ""]
        others = [method for method in methods if method != reference]
        if others:
            parts += [
                f"Difference from **{plain(reference)}**, paired by clip; bold where the interval excludes zero:",
                "",
            ]
            parts += [_markdown_table(lines, others, _difference, [methods.index(name) for name in others]), ""]
    legend = {line.title: line.help for line in lines_of(figures, methods)}
    parts += ["## What the figures mean", ""] + [f"- **{title}**: {text}" for title, text in legend.items()]
    parts += ["", f"{ARROWS_EXPLAINED}. {_JUDGE_EXPLAINED}."] if legend else []
    parts += ["", "In parentheses are 95 % intervals: bootstrap over clips within labels; of KID and CMMD jackknife."]
    if any(not figure.is_independent for figure in figures):
        parts += ["", f"† {_EXPLAINED}."]
    if notes:
        parts += ["", "## Notes", "", *(f"- {_line(note).replace('<', '&lt;')}" for note in notes)]
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, in tables as elsewhere."""
    return _SIGNS.sub(r"\\\1", _line(text))


def code(text: str) -> str:
    """Text as a code span."""
    line = _line(text)
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def number(value: float | None) -> str:
    """A figure with three decimals, or three significant digits where it is large or small."""
    return "" if value is None else numbers(value)[0]


def numbers(*given: float | None) -> list[str]:
    """Figures that stand together, with the decimals that the largest of them needs."""
    values = [math.nan if value is None else value for value in given]
    largest = max((abs(value) for value in values if not math.isnan(value)), default=0.0)
    form = ".3g" if largest >= 100 or 0 < largest < 0.01 else ".3f"
    return ["" if math.isnan(value) else f"{value:{form}}" for value in values]


def half_width(figure: Figure) -> str:
    """Half of the interval's width."""
    width = (figure.high - figure.low) / 2
    return "" if math.isnan(width) else f"±{number(width)}"


def with_interval(value: float, low: float, high: float) -> str:
    """A figure with its interval, if there is one."""
    return number(value) if math.isnan(low) else "{} ({} to {})".format(*numbers(value, low, high))


def _with_interval(figure: Figure) -> str:
    return with_interval(figure.value, figure.low, figure.high)


def _difference(figure: Figure) -> str:
    if figure.difference is None or math.isnan(figure.difference):
        return ""
    text = difference_text(figure)
    return f"**{text}**" if figure.is_significant else text


def difference_text(figure: Figure) -> str:
    """A figure's difference from the reference with its sign, and the interval."""
    value, low, high = numbers(figure.difference, figure.difference_low, figure.difference_high)
    return f"{'' if value.startswith('-') else '+'}{value} ({low} to {high})"


def _markdown_table(
    lines: Sequence[Line], methods: Sequence[str], show: Callable[[Figure], str], indices: Sequence[int] | None = None
) -> str:
    indices = range(len(methods)) if indices is None else indices
    rows = ["| figure | " + " | ".join(map(plain, methods)) + " |", "|---|" + "---|" * len(methods)]
    for line in lines:
        shown = [show(figure) if (figure := line.figures[index]) else "" for index in indices]
        title = line.title if line.is_independent else f"{line.title} †"
        rows.append(f"| {title} | " + " | ".join(shown) + " |")
    return "\n".join(rows)
