"""The command line: each command opens, calls, and shows the result.

Heavy modules are imported by the commands that need them, so that `aai --help` answers at once.
"""

import shlex
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.app.align import align
from flows.app.bank import bank
from flows.app.evaluate import evaluate
from flows.app.opening import DEFAULT as _DEFAULT
from flows.app.opening import Changes, ConfigPath
from flows.app.opening import changed as _changed
from flows.app.opening import open_at as _open
from flows.app.terminal import (
    at_work,
    fail,
    pictures_line,
    remark,
    sentences,
    show_figures,
    show_plan,
    show_results,
    show_summaries,
)

if TYPE_CHECKING:
    from flows.steps import Do
    from tasks.runtime.driver import StageSummary
    from tasks.runtime.run import Run

app = typer.Typer(
    help="AAI: sounds into pictures at dataset scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"aai {metadata.version('aai')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """AAI: sounds into pictures at dataset scale."""


app.add_typer(bank, name="bank")
app.add_typer(align, name="align")
app.add_typer(evaluate, name="evaluate")

_DEMO = Path("demo")


@app.command(epilog="Example: `aai init --profile tiny && aai build`")
def init(
    profile: Annotated[
        str | None, typer.Option(help="tiny, sd15 or sdxl; by default sd15 with a GPU, else tiny.")
    ] = None,
    path: Annotated[Path, typer.Argument(help="File to write.")] = _DEFAULT,
) -> None:
    """Write a configuration file that explains every option."""
    from flows.app.config_template import suggest_profile, template
    from flows.app.output import check_output, write_output

    with sentences():
        if path.is_file():
            fail(f"{path} exists: name another file, or remove it")
        check_output(path, "PATH", lambda data: False)
        chosen = profile or suggest_profile()
        write_output(path, template(chosen).encode(), "PATH")
    build = "aai build" if path == _DEFAULT else f"aai build -c {path}"
    typer.echo(f"wrote {path} for the profile {chosen}: set `audio` and `images` in it, then run `{build}`")


@app.command(epilog="Example: `aai plan -c aai.yaml --set fit.steps=48`")
def plan(config: ConfigPath = _DEFAULT, changes: Changes = None) -> None:
    """Dry run of a build: items done, new, stale and rejected per stage, with the time estimated from earlier runs."""
    from tasks.views.plan import plan as make_plan

    with sentences():
        planned = make_plan(_open(config, changes))
    show_plan(planned)


@app.command(epilog="Example: `aai build -c aai.yaml`")
def build(config: ConfigPath = _DEFAULT, changes: Changes = None) -> None:
    """Build the cue bank: one AudioCue per clip. A second run processes only what is new."""
    from flows.steps import build as make_bank
    from flows.steps import check_sources
    from tasks.views.plan import plan as make_plan

    with sentences():
        run = _open(config, changes)
        check_sources(run)
        planned = make_plan(run)
        if planned.is_empty:
            for note in planned.notes:
                remark(note)
            typer.echo(f"nothing to do: {run.workspace.uri} is up to date")
            return
        with at_work(run):
            done = _follow("build", make_bank, run)
    show_summaries(done)
    typer.echo(f"the bank is {run.workspace.uri}")


@app.command(epilog="Example: `aai render jobs.yaml -c aai.yaml`")
def render(
    jobs: Annotated[
        Path, typer.Argument(help="Job file (YAML): a list of prompts, each with a selection of cues and options.")
    ],
    config: ConfigPath = _DEFAULT,
    changes: Changes = None,
    dry_run: Annotated[
        bool, typer.Option(help="Only print the number of new pictures and the estimated time.")
    ] = False,
) -> None:
    """Render the pictures of a job file into webdataset shards. A second run renders only what is new."""
    from aai.jobs.jobfile import load_jobs
    from tasks.render import RenderSectionOptions, forget_rejects, plan_render, shards_of
    from tasks.render_source import RenderSource

    with sentences():
        run = _open(config, changes)
        loaded = load_jobs(jobs, run.config.options(RenderSectionOptions).of_jobs)
        source = RenderSource(run, loaded)
        planned = plan_render(run, source)
        for warning in planned.warnings:
            remark(warning)
        if not planned.total:
            fail("the jobs ask for no picture: see above which filters select no cue")
        if dry_run or not planned.new:
            if not dry_run:
                forget_rejects(run, source)
            typer.echo(pictures_line(planned))
            return
        with at_work(run):
            from flows.steps import render as make_pictures

            done = _follow("render", lambda run, do: make_pictures(run, loaded, do, source), run)
    show_summaries(done)
    for kind in sorted({job.shard_kind for job in loaded}):
        typer.echo(f"the pictures are in {shards_of(run, kind)}")


@app.command(epilog="Example: `aai score -c aai.yaml`")
def score(config: ConfigPath = _DEFAULT, changes: Changes = None) -> None:
    """Score the pictures that have no scores yet, and print the aggregated scores per method and job."""
    from tasks.score import SCORES
    from tasks.views.results import generations, results

    with sentences():
        run = _open(config, changes)
        if run.pending(SCORES).num:
            with at_work(run):
                from flows.steps import score as measure

                done = _follow("score", measure, run)
            show_summaries(done)
        found = results(run, generations(run))
    if found:
        show_results(found)
    else:
        typer.echo("there are no pictures to score: run `aai render` first")


@app.command(epilog="Example: `aai report -c aai.yaml -o report.html`")
def report(
    config: ConfigPath = _DEFAULT,
    changes: Changes = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default report.html in the workspace.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Maximum number of clips, sampled evenly over labels.")] = 100,
) -> None:
    """Write one self-contained HTML page with clips, retrieved images, pictures and scores."""
    from flows.app.report import report as write_page

    with sentences():
        where = write_page(_open(config, changes), output, clips)
    typer.echo(f"wrote {where}")


@app.command(epilog="Example: `aai imagine rain.wav 'a photo of *' -o rain.png -c aai.yaml`")
def imagine(  # noqa: PLR0913
    clip: Annotated[Path, typer.Argument(help="Audio file; the first window that is not silent is used.")],
    prompt: Annotated[str, typer.Argument(help="Prompt with * for the sound.")] = "a photo of *",
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write: png, jpg or webp.")] = Path(
        "picture.png"
    ),
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Configuration of a bank, for its models and mapper; by default ./aai.yaml, if any."
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Models of this profile instead; tiny where there is no configuration.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the initial noise.")] = 0,
    changes: Changes = None,
) -> None:
    """Render one picture of one recording, without fitting: with the models of a profile or of a bank."""
    with sentences():
        from flows.app.imagine import imagine as make_picture
        from flows.app.imagine import run_of

        make_picture(run_of(config, profile, changes), clip, prompt, seed, output)
    typer.echo(f"wrote {output}")


@app.command(epilog="Example: `aai demo demo`")
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write to. A second run does only what is left.")] = _DEMO,
) -> None:
    """Run the whole pipeline offline on the tiny world: collection, cue bank, pictures, scores, report."""
    import flows.app.demo as story

    with sentences():
        story.prepare(folder)
        run = _open(folder / story.CONFIG, None)
        if not story.is_finished(run, folder):
            with at_work(run):
                done = _follow("demo", lambda run, do: story.demo(run, folder, do), run)
            show_summaries(done)
            story.show(run, folder)
        found = story.figures(run)
    show_figures(found)
    typer.echo(f"all in one picture: {folder / story.SHEET}\nthe report: {folder / story.REPORT}")


@app.command(
    epilog="Example: `aai submit --to slurm --dry-run -- build -c aai.yaml`",
    context_settings={"ignore_unknown_options": True},  # those of the command, which `--` may be left out before
)
def submit(
    words: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="build, render, score, report or align train.")
    ],
    to: Annotated[
        str,
        typer.Option(help="slurm, slurm-array, ray, kuberay or skypilot: docs/CLUSTERS.md compares them."),
    ],
    dry_run: Annotated[bool, typer.Option(help="Only print the file that would be handed in.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the job, and exit with its state.")] = False,
) -> None:
    """Run a command on a cluster: the section `submit` of its configuration says on which nodes and for how long."""
    from flows.app.submit import find_target, hand_in, prepare, read_command, show

    with sentences():
        target, command = find_target(to), read_command(typer.main.get_group(app), words)
        submission = prepare(words, command, _changed({}, command.params["changes"]))
        code = (show if dry_run else hand_in)(target, submission, wait)
    if code:
        raise typer.Exit(code)


@app.command(epilog="Example: `aai deploy -c aai.yaml --jobs jobs.yaml --cron '0 2 * * *'`")
def deploy(  # noqa: PLR0913
    config: ConfigPath = _DEFAULT,
    changes: Changes = None,
    jobs: Annotated[Path | None, typer.Option(help="Job file; without one no pictures are rendered.")] = None,
    cron: Annotated[str, typer.Option(help="Schedule in UTC: minute, hour, day, month, weekday.")] = "0 2 * * *",
    pool: Annotated[str, typer.Option(help="Prefect work pool; it is created if it is not there.")] = "aai",
    kind: Annotated[Literal["process", "kubernetes"], typer.Option(help="Kind of a new work pool.")] = "process",
    name: Annotated[str, typer.Option(help="Name of the schedule: each bank needs one of its own.")] = "nightly",
) -> None:
    """Schedule bank, pictures, scores and report on the Prefect server at PREFECT_API_URL."""
    with sentences():
        from tasks.stages import load_config

        keys = _changed({}, changes)
        load_config(config, keys)
        from flows.app.deploy import FLOW
        from flows.app.deploy import deploy as make_deployment

        for line in make_deployment(name, config, keys, jobs, cron, pool, kind):
            remark(line)
    where = (
        "where AAI is installed"
        if kind == "process"
        else "where `prefect-kubernetes` is installed and reaches the cluster"
    )
    typer.echo(f"scheduled {FLOW}/{name} at {cron!r} UTC; start a worker {where}, and a run at once:")
    typer.echo(f"  prefect worker start --pool {shlex.quote(pool)}\n  prefect deployment run {FLOW}/{name}")


@app.command(epilog="Example: `aai doctor -c aai.yaml`")
def doctor(config: ConfigPath = _DEFAULT, changes: Changes = None) -> None:
    """Print versions and devices, and check the workspace; each fault comes with a remedy."""
    from flows.app.doctor import examine

    with sentences():
        findings = examine(_open(config, changes) if config.exists() or config != _DEFAULT else None)
    for finding in findings:
        typer.echo(finding.line)
    if any(finding.is_wrong for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The command `aai`."""
    from flows.app.terminal import leaving_at_once

    with leaving_at_once():
        app()


def _follow(name: str, steps: "Callable[[Run, Do], list[StageSummary]]", run: "Run") -> "list[StageSummary]":
    """Run some steps: as a Prefect flow if a Prefect server is configured, else directly."""
    import os

    if not os.environ.get("PREFECT_API_URL"):
        from flows.app.terminal import announced

        return steps(run, announced)
    from flows.prefect import check_server, orchestrate

    check_server()
    return orchestrate(name, steps, run)


if __name__ == "__main__":
    main()
