"""`aai align`: training and evaluation of aligners. Heavy modules are imported by the commands that need them."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from flows.app.terminal import announced, at_work, fail, remark, sentences

if TYPE_CHECKING:
    from aai.align.evaluation import Abstention, Evaluation, Figure
    from tasks.aligner.captions import TextOutcome
    from tasks.aligner.whole import Outcome
    from tasks.runtime.run import Run

align = typer.Typer(help="Train and evaluate an aligner, which finds images for sounds.", no_args_is_help=True)

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace an option, such as train.epochs=5; repeatable."),
]
_OUTPUT = Path("trained")


@align.command(
    epilog="Example: `aai align train pairs.yaml`, or `aai align train --text-only captions.txt -c aai.yaml`"
)
def train(
    pairs: Annotated[Path | None, typer.Argument(help="Description of the pairs and the training (YAML).")] = None,
    text_only: Annotated[
        Path | None, typer.Option(help="Train from a text file of captions instead, without any pair.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="For --text-only: the bank's configuration; by default ./aai.yaml."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="For --text-only: folder to write to; trained by default.")
    ] = None,
    changes: Changes = None,
) -> None:
    """Train an aligner from pairs of sounds and images, or from captions; the same command resumes a stopped one."""
    with sentences():
        if (pairs is None) == (text_only is None):
            fail("name either a file that describes pairs, or --text-only with a file of captions")
        if pairs is not None and (config or output):
            fail(f"-c and -o are for --text-only: write config and output into {pairs}, or use --set output=FOLDER")
        if pairs is not None:
            _from_pairs(pairs, changes)
        elif text_only is not None:
            _from_captions(text_only, config, output or _OUTPUT, changes)


def _from_pairs(path: Path, changes: list[str] | None) -> None:
    from flows.app.opening import changed
    from tasks.aligner.config import bank_of, load_training
    from tasks.aligner.result import check_way
    from tasks.aligner.whole import embed, gather, prepare, train_aligner
    from tasks.runtime.signals import stopping_on_signals
    from tasks.stages import load_config, open_run

    training = load_training(path, changed({}, changes))
    check_way(Path(training.output), "pairs")
    before = prepare(training)
    for note in before:
        typer.echo(note)
    run = open_run(bank_of(training))
    bank = open_run(load_config(training.config)) if training.config else None
    with at_work(run):
        if any(summary.stopped for summary in embed(run, announced, bank)):
            raise KeyboardInterrupt
        found = gather(run, training, before)
        stop = Event()
        with stopping_on_signals(stop):
            outcome = train_aligner(run, training, found, _watch(run), stop)
    _check_finished(outcome)
    _show(outcome)


def _show(outcome: "Outcome") -> None:
    from tasks.aligner.evaluate import MIN_HELD_OUT

    typer.echo("pairs: " + ", ".join(f"{num:,} {name}" for name, num in outcome.counts.items() if num))
    if outcome.counts["held out"] < MIN_HELD_OUT:
        remark(f"`aai align eval` needs {MIN_HELD_OUT} held-out pairs: raise pairs.held_out, or add pairs")
    for note in outcome.notes:
        typer.echo(note)
    if outcome.is_new:
        typer.echo(f"wrote {outcome.folder}; curves: {outcome.folder.parent / 'training.html'}")
    else:
        typer.echo(f"nothing to do: {outcome.folder} is up to date")
    _show_use(outcome.folder, outcome.encoder)


def _show_use(folder: Path, encoder: Path | None = None) -> None:
    audio = f"models.audio: {encoder}, " if encoder else ""
    typer.echo(f"to use it, set {audio}models.aligner: {folder} and align.method: trained")


def _from_captions(path: Path, config: Path | None, output: Path, changes: list[str] | None) -> None:
    from flows.app.opening import changed, nearby
    from tasks.aligner.captions import read_captions, train_on_captions
    from tasks.aligner.config import ALIGNED, check_output, read_text_training
    from tasks.aligner.result import check_way
    from tasks.runtime.config import merge
    from tasks.runtime.signals import stopping_on_signals
    from tasks.stages import load_config, make_config, open_run

    check_output(output)
    check_way(output, "captions")
    config = nearby(config, "with the encoders of the profile tiny, and no bank")
    keys = changed({}, changes)
    own: dict[str, object] = {name: keys.pop(name) for name in ("text_only", "train") if name in keys}
    keys = merge(keys, ALIGNED)
    run = open_run(load_config(config, keys) if config else make_config(**({"workspace": str(output / "bank")} | keys)))
    training = read_text_training(own, run.config.seed)
    captions = read_captions(path)
    stop = Event()
    with at_work(run), stopping_on_signals(stop):
        outcome = train_on_captions(run, training, captions, output, _watch(run), stop)
    _check_finished(outcome)
    for note in outcome.notes:
        typer.echo(note)
    scores = ", ".join(f"{name} {recall:.3f}" for name, recall in outcome.recalls.items())
    typer.echo(f"R@1 on {outcome.num_held_out:,} held-out captions: {scores}; kept the {outcome.chosen}")
    typer.echo(f"wrote {outcome.folder}" if outcome.is_new else f"nothing to do: {outcome.folder} is up to date")
    _show_use(outcome.folder)


@align.command(name="eval", epilog="Example: `aai align eval pairs.yaml`, or `aai align eval -c aai.yaml`")
def evaluate(  # noqa: PLR0913
    pairs: Annotated[Path | None, typer.Argument(help="The file of the training: its held-out pairs are used.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Configuration of a labelled bank, instead of pairs; by default ./aai.yaml."
        ),
    ] = None,
    aligner: Annotated[
        Path | None, typer.Option(help="Folder of another aligner to evaluate on the held-out pairs.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for evaluation.html and evaluation.json.")
    ] = _OUTPUT,
    clips: Annotated[int, typer.Option(min=0, help="Number of clips on the page.")] = 40,
    changes: Changes = None,
) -> None:
    """Measure an aligner: recall, class precision, hubness, abstention; as a table, JSON and a page."""
    with sentences():
        from flows.app.opening import DEFAULT, nearby
        from tasks.aligner.evaluate import evaluate_bank, evaluate_pairs

        if pairs is not None and config is not None or pairs is config is None and not DEFAULT.exists():
            fail("name either the file of a training, or -c with the configuration of a bank")
        if config is not None and aligner is not None:
            fail("--aligner is for the pairs of a training: for a bank use --set models.aligner=FOLDER, and build it")
        if pairs is not None:
            from flows.app.opening import changed
            from tasks.aligner.config import load_training

            training = load_training(pairs, changed({}, changes))
            where = Path(training.output) if output == _OUTPUT else output
            found = evaluate_pairs(training, aligner, where, clips)
        else:
            from flows.app.opening import open_at

            run = open_at(nearby(config, "") or DEFAULT, changes)
            where, found = output, evaluate_bank(run, output, clips)
    _show_evaluation(found)
    typer.echo(f"wrote {where / 'evaluation.json'} and {where / 'evaluation.html'}")


def _show_evaluation(found: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    other = ("other",) if found.other else ()
    for direction in dict.fromkeys(figure.direction for figure in found.figures):
        table = Table("figure", "queries", "value", "95 % interval", "chance", *other, "n", title=direction)
        for figure in (each for each in found.figures if each.direction == direction):
            beside = ("" if figure.other is None else f"{figure.other:.3f}",) if found.other else ()
            values = (f"{figure.value:.3f}", _interval(figure), f"{figure.chance:.3f}", *beside, f"{figure.num:,}")
            table.add_row(figure.name, figure.queries, *values)
        Console().print(table)
    if found.abstention:
        table = Table("coverage", "precision", "95 % interval", "n", title="if the least confident get no image")
        for row in found.abstention:
            table.add_row(f"{row.coverage:g}", f"{row.precision:.3f}", _interval(row), f"{row.num:,}")
        Console().print(table)
    typer.echo(f"{found.num_clips:,} clips, {found.num_images:,} images; precision: {found.correct}")
    typer.echo("chance: of a random order" + (f"; other: {found.other}" if found.other else ""))
    for note in found.notes:
        typer.echo(note)


def _interval(row: "Figure | Abstention") -> str:
    return f"{row.low:.3f}–{row.high:.3f}"


def _watch(run: "Run") -> Callable[[int, int, dict[str, float]], None]:
    """A progress bar of steps, with rate and remaining time; without a terminal a line now and then."""
    import sys
    import time

    bar, start_s = run.watch("train") if run.watch else None, time.monotonic()
    first: list[int] = []
    printed_s = start_s

    def update(step: int, steps: int, values: dict[str, float]) -> None:
        nonlocal printed_s
        if not first:
            first.append(step)
        now_s = time.monotonic()
        rate = (step - first[0]) / max(now_s - start_s, 1e-9)
        if bar:
            bar(step, steps, rate)
        if not sys.stderr.isatty() and (now_s - printed_s > 30 or step == steps):
            printed_s = now_s
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            typer.echo(f"train: step {step:,} of {steps:,}, {rate:.2f}/s, {shown}", err=True)

    return update


def _check_finished(outcome: "Outcome | TextOutcome") -> None:
    """End as after a signal if the training was stopped."""
    if not outcome.is_finished:
        raise KeyboardInterrupt
