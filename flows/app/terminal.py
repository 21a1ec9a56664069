"""What commands show: tables, progress bars, sentences, and an orderly end."""

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import typer

from aai.format import duration

if TYPE_CHECKING:
    from rich.table import Table

    from flows.app.demo import Figure
    from flows.steps import Step
    from tasks.render import RenderPlan
    from tasks.runtime.driver import StageSummary
    from tasks.runtime.run import Run
    from tasks.views.plan import BuildPlan
    from tasks.views.results import Result

_UNITS = "each stage counts its own items: files, tars, images, clips or pictures"

_STOPPED = "stopped; finished work is committed, and the same command does the rest"
_SIGNALLED = 128
"""Exit codes above this are those of signals."""


@contextmanager
def sentences() -> Iterator[None]:
    """Print the project's own errors as one sentence with exit code 2; any other error keeps its traceback.

    With AAI_TRACEBACK=1 the project's own errors keep theirs, too. Ctrl-C and other signals end the command orderly.
    """
    from aai.errors import AaiError

    try:
        with stoppable(), _interrupts():
            yield
    except AaiError as error:
        if os.environ.get("AAI_TRACEBACK"):
            raise
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    """Print what is wrong and exit with code 2."""
    typer.echo(f"aai: {sentence}", err=True)
    raise typer.Exit(2)


def remark(sentence: str) -> None:
    """Print what a user should know although nothing failed."""
    typer.echo(f"aai: note: {sentence}", err=True)


@contextmanager
def at_work(run: "Run") -> Iterator[None]:
    """Everything around the stages of a command: threads that share the processor, progress bars, workers' end."""
    # Threads that wait by spinning take the processor from one another where it is shared; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with closing(run), progress(run):
        yield


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a sentence and the exit code that a shell expects.

    A stage at work handles the first signal itself: it finishes the slices in flight and commits, then this runs. What
    leaves something else behind raises KeyboardInterrupt with a sentence of its own.
    """
    from tasks.runtime.signals import handled_by

    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    try:
        with handled_by(stop), _interrupts():
            yield
    except KeyboardInterrupt as error:
        typer.echo(f"aai: {str(error) or _STOPPED}", err=True)
        raise typer.Exit(_SIGNALLED + (received[0] if received else signal.SIGINT)) from error


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """After a signal, end the process without unloading its libraries: threads of Ray that still run would crash it."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.code, int) and error.code > _SIGNALLED:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code)
        raise


@contextmanager
def _interrupts() -> Iterator[None]:
    """DuckDB turns the KeyboardInterrupt that ends a query into an error of its own; turn it back."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


@contextmanager
def progress(run: "Run") -> Iterator[None]:
    """Show a bar with rate and remaining time for each stage at work, and log messages above the bars."""
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[rate]}", TimeRemainingColumn())
    shown = [TextColumn(column) if isinstance(column, str) else column for column in columns]
    console = Console(file=sys.stderr)
    log = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    with Progress(*shown, console=console, transient=True) as bars, _handling("tasks", log):

        def watch(stage: str) -> Callable[[int, int, float], None]:
            bar = bars.add_task(stage, total=None, rate="")

            def update(finished: int, total: int, rate: float) -> None:
                bars.update(bar, completed=finished, total=total, rate=f"{rate:,.1f}/s" if finished else "")

            return update

        run.watch = watch
        yield


def announced(name: str, step: "Step", run: "Run") -> "StageSummary":
    """Run a step, and say what it did."""
    summary = step(run)
    announce(name, summary)
    return summary


def announce(name: str, summary: "StageSummary") -> None:
    """Print a line on a step that is finished, unless there is a terminal for bars, or it did nothing."""
    if not sys.stderr.isatty() and (summary.new or summary.rejected):
        rejected = f", {summary.rejected:,} rejected" if summary.rejected else ""
        typer.echo(f"{name}: {summary.new:,} new{rejected} in {duration(summary.took_s)}", err=True)


@contextmanager
def _handling(name: str, handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def show_plan(planned: "BuildPlan") -> None:
    """A table of what a build has to do per stage, and notes about the source folders."""
    from rich.console import Console

    table = _table("stage", "done", "new", "stale", "rejected", "estimate")
    for stage in planned.stages:
        seconds = stage.estimate.seconds
        estimate = "" if not stage.new else "unknown" if seconds is None else duration(seconds)
        estimate += " ?" * stage.estimate.is_rough
        numbers = [f"{number:,}" for number in (stage.done, stage.new, stage.stale, stage.rejected)]
        table.add_row(stage.stage, *numbers, estimate)
    Console().print(table)
    typer.echo(_UNITS)
    if any(stage.stale for stage in planned.stages):
        typer.echo(
            "stale: rows of other settings, such as those of comparisons; they are kept for when these come back"
        )
    if planned.is_empty:
        typer.echo("nothing to do: everything is done")
    for note in (*planned.times, *planned.placement, *planned.notes):
        typer.echo(note)


def show_summaries(done: "Sequence[StageSummary]") -> None:
    """A table of what the stages of a command did."""
    from rich.console import Console

    table = _table("stage", "done before", "new", "rejected", "time", "per second")
    for summary in done:
        rate = f"{summary.rate:,.1f}" if summary.new else ""
        numbers = [f"{number:,}" for number in (summary.done, summary.new, summary.rejected)]
        table.add_row(summary.stage, *numbers, duration(summary.took_s), rate)
    Console().print(table)
    typer.echo(_UNITS)
    if any(summary.rejected for summary in done):
        typer.echo("the table `rejects` and `aai report` say which items were rejected, and why")


def show_results(results: "Sequence[Result]") -> None:
    """A table of aggregated scores, as many as fit into a narrow terminal; the report has all of them."""
    from rich.console import Console
    from rich.markup import escape

    from aai.metrics import AIS_RANK, CLIP_SCORE, METRICS

    shares = [name for name, metric in METRICS.items() if metric.is_share and metric.role == "judge"]
    others, has_tone = (CLIP_SCORE, AIS_RANK), any(result.scores.tone.bias is not None for result in results)
    labels = [[METRICS[name].label for name in names] for names in (shares, others)]
    degrees = ["intensity", "bias", "slope", *(["tone"] if has_tone else [])]
    table = _table("pictures of", *labels[0], *degrees, *labels[1])
    for result in results:
        means, intensity = result.scores.means, result.scores.intensity
        figures = [means.get(name) for name in shares] + [intensity.rank, intensity.bias, intensity.slope]
        figures += [result.scores.tone.rank] if has_tone else []
        figures += [means.get(name) for name in others]
        name = result.generation.name if result.job is None else f"  {result.job}"
        name += "" if result.has_cue else " (no cue)"
        table.add_row(escape(name), *("" if figure is None else f"{figure:.3f}" for figure in figures))
    Console().print(table)
    if results and all(result.scores.means.get(CLIP_SCORE) is None for result in results):
        typer.echo(
            "no CLIPScore: the clips have no labels to stand for their cues; name a table with them under `metadata`"
        )
    typer.echo("intensity: rank correlation of the clips' intensity with the judged one; bias: judged minus the clips'")
    if has_tone:
        typer.echo("tone: rank correlation of the clips' tone with the judged one")
    typer.echo(
        "AIS-rank is not independent: the encoder that retrieved the images measures it; `aai report` has all scores"
    )


def show_figures(figures: "Sequence[Figure]") -> None:
    """A table of the demo's scores beside the values to reach."""
    from rich.console import Console

    table = _table("the cue as a", "phenomenon", "at least", "intensity", "at least", "tone", "at least")
    for figure in figures:
        pairs = (
            (figure.phenomenon, figure.min_phenomenon),
            (figure.intensity, figure.min_intensity),
            (figure.tone, figure.min_tone),
        )
        table.add_row(figure.use, *("" if value is None else f"{value:.2f}" for pair in pairs for value in pair))
    Console().print(table)
    typer.echo(
        "phenomenon: accuracy of the judge against the label; intensity, tone: rank correlation within phenomena"
    )


def pictures_line(planned: "RenderPlan") -> str:
    """What some jobs come to, in one line."""
    done = planned.total - planned.new - planned.rejected
    rejected = f", {planned.rejected:,} rejected" if planned.rejected else ""
    if not planned.new:
        return f"nothing to do: {done:,} pictures done{rejected}"
    seconds, basis = planned.estimate.seconds, planned.estimate.basis
    about = "unknown time" if seconds is None else f"about {duration(seconds)}"
    about += f": {basis}" if basis else ""
    faulty = f", of which {planned.faulty:,} cannot be rendered" if planned.faulty else ""
    best = f", the best of {planned.candidates:,} candidates" if planned.candidates > planned.new else ""
    return f"{planned.new:,} pictures new{best}{faulty} ({about}), {done:,} done{rejected}"


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
