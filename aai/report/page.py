"""Rendering of the report as a self-contained HTML file.

Jinja escapes all texts; in addition, the page's Content-Security-Policy allows only its own script, by digest.
"""

import base64
import math
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aai.format import duration
from aai.report.contents import Report
from aai.report.media import CURVE_HEIGHT, CURVE_WIDTH

_FOLDER = Path(__file__).parent / "templates"


def page(report: Report) -> str:
    """Render the page as HTML."""
    return render("report.html", report=report, curve_width=CURVE_WIDTH, curve_height=CURVE_HEIGHT)


def render(template: str, script_file: str = "report.js", **contents: Any) -> str:
    """Render a template, with the style of the report and a script."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "number": _number, "frequency": _frequency, "score": _score}
    style, script = ((_FOLDER / name).read_text() for name in ("report.css", script_file))
    return environment.get_template(template).render(
        contents,
        style=style,
        script=script,
        style_digest=_digest(style),
        script_digest=_digest(script),
        version=version("aai"),
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _number(value: int) -> str:
    return f"{value:,}"


def _score(value: float | None, digits: int = 2) -> str:
    """A number with a typographic minus sign; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def _frequency(hertz: int) -> str:
    return f"{hertz / 1000:g} kHz"
