"""The command line: each command opens, calls, and shows what came back.

Whatever is heavy is imported by the command that needs it, so that `aai --help` answers at once.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from aai.format import duration

if TYPE_CHECKING:
    from rich.table import Table

    from flows.app.demo import Figure
    from tasks.render import RenderPlan
    from tasks.runtime.driver import StageSummary
    from tasks.runtime.run import Run
    from tasks.views.results import Result

app = typer.Typer(
    help="AAI: sounds into pictures at dataset scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

bank = typer.Typer(help="What to do with a cue bank.", no_args_is_help=True)
app.add_typer(bank, name="bank")

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration; `aai init` writes one.")]
_DEFAULT = Path("aai.yaml")
_DEMO = Path("demo")


@app.command(epilog="Example: `aai init --profile tiny && aai build`")
def init(
    profile: Annotated[
        str | None, typer.Option(help="tiny, sd15 or sdxl; by default what this machine can run.")
    ] = None,
    path: Annotated[Path, typer.Argument(help="The file to write.")] = _DEFAULT,
) -> None:
    """Write a configuration in which every option stands with its meaning."""
    from flows.app.config_template import starter, suggest_profile

    with _sentences():
        if path.exists():
            _fail(f"{path} is there already: name another file, or remove it")
        chosen = profile or suggest_profile()
        path.write_text(starter(chosen))
    typer.echo(f"wrote {path} for the profile {chosen}: say in it where `audio` and `images` are, then run `aai build`")


@app.command(epilog="Example: `aai plan -c aai.yaml`")
def plan(config: ConfigPath = _DEFAULT) -> None:
    """Say per stage what is done, new, stale and rejected, and how long the new will take."""
    from rich.console import Console

    from tasks.views.plan import plan as make_plan

    with _sentences():
        plans = make_plan(_open(config))
    table = _table("stage", "done", "new", "stale", "rejected", "estimate")
    for each in plans:
        estimate = "" if not each.new else "unknown" if each.estimate_s is None else duration(each.estimate_s)
        numbers = [f"{number:,}" for number in (each.done, each.new, each.stale, each.rejected)]
        table.add_row(each.stage, *numbers, estimate)
    Console().print(table)


@app.command(epilog="Example: `aai build -c aai.yaml`")
def build(config: ConfigPath = _DEFAULT) -> None:
    """Make the cue bank: audio and images in, a cue per clip out; again, it does only what is new."""
    from tasks.views.plan import plan as make_plan

    with _sentences():
        run = _open(config)
        if not any(each.new for each in make_plan(run)):
            typer.echo(f"nothing to do: {run.workspace.uri} is up to date")
            return
        with _at_work(run):
            from flows.prefect import orchestrate
            from flows.steps import build as make_bank

            done = orchestrate("build", make_bank, run)
    _show(done)
    typer.echo(f"the bank is {run.workspace.uri}")


@app.command(epilog="Example: `aai render jobs.yaml -c aai.yaml`")
def render(
    jobs: Annotated[Path, typer.Argument(help="A YAML list of jobs: prompts with *, which cues, how many pictures.")],
    config: ConfigPath = _DEFAULT,
    dry_run: Annotated[bool, typer.Option(help="Only say what there is to do and how long it will take.")] = False,
) -> None:
    """Make the pictures that jobs ask for, from the cue bank, into webdataset shards; again, only what is new."""
    from aai.jobs.jobfile import load_jobs
    from tasks.render import plan as make_plan
    from tasks.render import shards_of

    with _sentences():
        run = _open(config)
        wanted = load_jobs(jobs, run.config.render)
        planned = make_plan(run, wanted)
        for warning in planned.warnings:
            typer.echo(f"aai: {warning}", err=True)
        if dry_run or not planned.new:
            typer.echo(_pictures(planned))
            return
        with _at_work(run):
            from flows.prefect import orchestrate
            from flows.steps import render as make_pictures

            done = orchestrate("render", lambda run, do: make_pictures(run, wanted, do), run)
    _show(done)
    typer.echo(f"the pictures are in {shards_of(run)}")


@app.command(epilog="Example: `aai score -c aai.yaml`")
def score(config: ConfigPath = _DEFAULT) -> None:
    """Measure the pictures that have no scores, and say what all scores come to per method and job."""
    from tasks.score import num_unscored
    from tasks.views.results import generations, results

    with _sentences():
        run = _open(config)
        if num_unscored(run):
            with _at_work(run):
                from flows.prefect import orchestrate
                from flows.steps import score as measure

                done = orchestrate("score", measure, run)
            _show(done)
        found = results(run, generations(run))
    if found:
        _show_results(found)
    else:
        typer.echo("there are no pictures to score: run `aai render` first")


@app.command(epilog="Example: `aai report -c aai.yaml -o report.html`")
def report(
    config: ConfigPath = _DEFAULT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; by default report.html in the workspace.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Most clips on it, evenly sampled over their labels.")] = 100,
) -> None:
    """Write one HTML page that opens from disk, with every clip and all that became of it."""
    from flows.app.report import report as write_page

    with _sentences():
        where = write_page(_open(config), output, clips)
    typer.echo(f"wrote {where}")


@app.command(epilog="Example: `aai imagine rain.wav 'a photo of *' -o rain.png`")
def imagine(
    clip: Annotated[Path, typer.Argument(help="A recording; of a long one the first window counts.")],
    prompt: Annotated[str, typer.Argument(help="A prompt with * where the sound stands.")] = "a photo of *",
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture.")] = Path("picture.png"),
    profile: Annotated[str, typer.Option(help="The profile whose models are used.")] = "tiny",
    seed: Annotated[int, typer.Option(help="The seed of the picture's noise.")] = 0,
) -> None:
    """One clip, one picture, without a workspace."""
    with _sentences():
        from flows.app.imagine import imagine as make_picture
        from tasks.runtime.config import make_config

        output.write_bytes(make_picture(make_config(profile=profile), clip, prompt, seed, output.suffix))
    typer.echo(f"wrote {output}")


@app.command(epilog="Example: `aai demo demo`")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; again, only what is new is done.")] = _DEMO,
) -> None:
    """The whole story on the tiny world: a collection, a cue bank, pictures, scores and a report, offline."""
    import flows.app.demo as story

    with _sentences():
        story.prepare(folder)
        run = _open(folder / story.CONFIG)
        if not story.is_finished(run, folder):
            with _at_work(run):
                from flows.prefect import orchestrate

                done = orchestrate("demo", lambda run, do: story.demo(run, folder, do), run)
            _show(done)
            story.show(run, folder)
        found = story.figures(run)
    _show_figures(found)
    typer.echo(f"all in one picture: {folder / story.SHEET}\nthe report: {folder / story.REPORT}")


@app.command(epilog="Example: `aai doctor -c aai.yaml`")
def doctor(config: ConfigPath = _DEFAULT) -> None:
    """Say which versions and devices are here, and what is wrong with the workspace, with the remedy."""
    from flows.app.doctor import examine

    with _sentences():
        findings = examine(_open(config) if config.exists() else None)
    for finding in findings:
        typer.echo(finding.line)
    if any(finding.is_wrong for finding in findings):
        raise typer.Exit(1)


@bank.command(epilog="Example: `aai bank export --format comfyui --label rain -o embeddings/aai`")
def export(  # noqa: PLR0913 - as many options
    config: ConfigPath = _DEFAULT,
    program: Annotated[
        Literal["diffusers", "a1111", "comfyui"], typer.Option("--format", help="The program that is to load them.")
    ] = "diffusers",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder; else cues-FORMAT.")] = None,
    where: Annotated[str | None, typer.Option(help="Only cues under this condition in SQL, as duration_s > 2.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only cues with this label; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most cues, the first by their ids.")] = None,
) -> None:
    """Write cues as files that other programs load, with a model card and the recordings' licences."""
    from aai.jobs.selection import CueFilter
    from flows.app.export import export as write_files

    with _sentences():
        run, chosen = _open(config), CueFilter(labels=tuple(label or ()), where=where or None)
        with _stoppable(), _progress(run):
            done = write_files(run, output or Path(f"cues-{program}"), program, chosen, limit)
    typer.echo(done.sentence)


def main() -> None:
    """The command `aai`."""
    app()


@contextmanager
def _sentences() -> Iterator[None]:
    """Our own errors become a sentence and exit code 2; all others are bugs and keep their traceback."""
    from aai.errors import AaiError

    try:
        yield
    except AaiError as error:
        _fail(str(error))


def _fail(sentence: str) -> None:
    typer.echo(f"aai: {sentence}", err=True)
    raise typer.Exit(2)


def _open(path: Path) -> "Run":
    from tasks.runtime.config import load_config
    from tasks.runtime.run import open_run

    return open_run(load_config(path))


@contextmanager
def _at_work(run: "Run") -> Iterator[None]:
    """All that a command needs around a flow: Prefect's server, bars, and an end at a Ctrl-C."""
    from flows.app.server import be_quiet, prefect_server

    # Threads that wait by spinning take the processor from one another where it is shared; read as torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    be_quiet()
    with _stoppable(), _progress(run), prefect_server():
        yield


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make a Ctrl-C or SIGTERM a sentence and the exit code a shell expects.

    A stage at work takes the first one itself: it finishes the slices in flight and commits before it comes here.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("aai: stopped; what is finished is committed, and the same command does the rest", err=True)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(run: "Run") -> Iterator[None]:
    """Bars with rate and remaining time while the stages of a run are at work, and above them what these log."""
    from rich.console import Console
    from rich.logging import RichHandler
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[rate]}", TimeRemainingColumn())
    shown = [TextColumn(each) if isinstance(each, str) else each for each in columns]
    console = Console(file=sys.stderr)
    log = RichHandler(console=console, show_time=False, show_level=False, show_path=False)
    with Progress(*shown, console=console, transient=True) as bars, _handling("tasks", log):

        def watch(stage: str) -> Callable[[int, int, float], None]:
            bar = bars.add_task(stage, total=None, rate="")

            def tell(finished: int, total: int, rate: float) -> None:
                bars.update(bar, completed=finished, total=total, rate=f"{rate:,.1f}/s")

            return tell

        run.watch = watch
        yield


@contextmanager
def _handling(name: str, handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _show_results(found: "Sequence[Result]") -> None:
    """What scores come to, as far as a narrow terminal has room; all of it, and what it says, is in the report."""
    from rich.console import Console
    from rich.markup import escape

    from aai.metrics import AIS_RANK, CLIP_SCORE, SHORT, YES_OR_NO

    shown = (CLIP_SCORE, AIS_RANK, *YES_OR_NO)
    table = _table("pictures of", *(SHORT[name] for name in shown), "intensity")
    for each in found:
        figures = [each.scores.means.get(name) for name in shown] + [each.scores.intensity]
        name = each.generation.name if each.job is None else f"  {each.job}"
        table.add_row(escape(name), *("" if figure is None else f"{figure:.3f}" for figure in figures))
    Console().print(table)
    typer.echo("intensity: rank correlation of the clips' and the judged one; `aai report` has all scores")


def _show_figures(found: "Sequence[Figure]") -> None:
    """What the demo's pictures come to, beside what is asked of them."""
    from rich.console import Console

    table = _table("the cue as a", "phenomenon", "asked", "intensity", "asked")
    for each in found:
        pairs = ((each.phenomenon, each.least_phenomenon), (each.intensity, each.least_intensity))
        table.add_row(each.use, *("" if value is None else f"{value:.2f}" for pair in pairs for value in pair))
    Console().print(table)
    typer.echo("phenomenon: share in which the judge sees what is heard; intensity: rank correlation within phenomena")


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _show(done: "list[StageSummary]") -> None:
    """What the stages of a flow did."""
    from rich.console import Console

    table = _table("stage", "before", "new", "rejected", "time", "per second")
    for each in done:
        rate = f"{each.rate:,.1f}" if each.new else ""
        numbers = [f"{number:,}" for number in (each.done, each.new, each.rejected)]
        table.add_row(each.stage, *numbers, duration(each.took_s), rate)
    Console().print(table)


def _pictures(planned: "RenderPlan") -> str:
    """How things stand with the pictures of some jobs, in one line."""
    done = planned.total - planned.new - planned.rejected
    rejected = f", {planned.rejected:,} rejected" if planned.rejected else ""
    if not planned.new:
        return f"nothing to do: {done:,} pictures done{rejected}"
    about = "unknown time" if planned.estimate_s is None else f"about {duration(planned.estimate_s)}"
    return f"{planned.new:,} pictures new ({about}), {done:,} done{rejected}"


if __name__ == "__main__":
    main()
