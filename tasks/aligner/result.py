"""What a training leaves behind: the aligner with its card, the curves as a page, and the facts as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aai.align.made_for import CARD
from aai.errors import BadConfig
from aai.models.revisions import resolve_revision
from aai.report.charts import Chart
from aai.report.training import TrainingPage, training_page
from aai.workspace.store import write_whole
from tasks.aligner.card import aligner_card, encoder_card
from tasks.aligner.config import ALIGNER, AUDIO, RESULT
from tasks.aligner.tower import publish_encoder
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from aai.align.checkpoints import Progress
    from aai.align.projector import Projector

CURVES = "training.html"
KEPT, RECALLS = "kept", "R@1 on held-out captions"


@dataclass(frozen=True)
class Result:
    """How a training went."""

    name: str
    """A digest of all that the aligner depends on."""
    progress: "Progress"
    steps: int
    options: Mapping[str, Any]
    notes: list[str]
    tower: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Weights of the last blocks of the audio encoder, if they were trained."""


def publish(run: Run, output: Path, projector: "Projector", result: Result, facts: Mapping[str, Any]) -> None:
    """Write the aligner, its card and curves, and the audio encoder that was trained with it.

    The mark that the training is finished comes last.

    Raises:
        BadConfig: the folder cannot be written, or the audio encoder cannot be loaded.
    """
    known = dict(facts) | {
        "audio encoder": "@".join(run.revision("audio")),
        "image-text encoder": "@".join(run.revision("image_text")),
        "steps": result.steps,
        "best step": result.progress.best_step,
    }
    try:
        (output / RESULT).unlink(missing_ok=True)
        projector.save(output / ALIGNER)
        encoders = {role: run.revision(role) for role in ("audio", "image_text")}
        if result.tower:
            publish_encoder(run, output / AUDIO, result.tower, result.options["tower_blocks"])
            write_whole(output / AUDIO / CARD, encoder_card(known, result.options, version("aai")).encode())
            encoders["audio"] = resolve_revision(output / AUDIO, None)
        card = aligner_card(known, result.options, result.notes, encoders, version("aai"))
        write_whole(output / ALIGNER / CARD, card.encode())
        write_whole(output / CURVES, training_page(_page(output, known, result)).encode())
        whole = known | {"name": result.name, "options": result.options, "notes": result.notes}
        whole["curve"] = result.progress.curve
        write_whole(output / RESULT, (json.dumps(whole, indent=1) + "\n").encode())
    except OSError as error:
        raise BadConfig(f"it cannot be written ({error.strerror})", key="output", uri=str(output)) from error


def finished(output: Path) -> str | None:
    """The digest of the training whose aligner is in a folder."""
    return _fact(output, "name")


def pairs_trained_on(output: Path) -> str | None:
    """The digest of the pairs that the aligner in a folder was trained on."""
    return _fact(output, "digest of the pairs")


def check_way(output: Path, way: str) -> None:
    """Check that a folder holds no aligner that was trained in another way; `way` is "pairs" or "captions".

    Raises:
        BadConfig: it holds one.
    """
    if finished(output) is not None and _fact(output, way) is None:
        other = "captions" if way == "pairs" else "pairs"
        raise BadConfig(
            f"it holds an aligner that was trained from {other}: name another folder", key="output", uri=str(output)
        )


def kept(output: Path, name: str) -> tuple[str, dict[str, float]] | None:
    """Which candidate a training from captions with some digest kept, and the recall of all; none if there is none."""
    if finished(output) != name:
        return None
    facts = json.loads((output / RESULT).read_text())
    return facts[KEPT], facts[RECALLS]


def _fact(output: Path, name: str) -> str | None:
    try:
        return str(json.loads((output / RESULT).read_text())[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _page(output: Path, known: Mapping[str, Any], result: Result) -> TrainingPage:
    curve = result.progress.curve
    names = (
        ("Loss", ("train loss", "validation loss")),
        ("R@10 of the validation pairs", ("R@10",)),
        ("Scale", ("scale",)),
    )
    charts = []
    for title, lines in names:
        points = {line: [(row["step"], row[line]) for row in curve if line in row] for line in lines}
        charts.append(Chart.of(title, {line: own for line, own in points.items() if own}, "step"))
    rows = [(name, _text(value)) for name, value in known.items()]
    options = [(name, _text(value)) for name, value in result.options.items()]
    return TrainingPage(output.resolve().name, [chart for chart in charts if chart], rows, options, result.notes)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(own)}" for name, own in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
