"""`aai bank`: export and maintenance of a cue bank. Heavy modules are imported by the commands that need them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.app.opening import DEFAULT, Changes, ConfigPath, open_at
from flows.app.terminal import progress, remark, sentences

bank = typer.Typer(help="Export and maintain a cue bank.", no_args_is_help=True)


@bank.command(epilog="Example: `aai bank export --format comfyui --label rain -o embeddings/aai`")
def export(  # noqa: PLR0913
    config: ConfigPath = DEFAULT,
    changes: Changes = None,
    program: Annotated[
        Literal["diffusers", "a1111", "comfyui"], typer.Option("--format", help="Program that will load the files.")
    ] = "diffusers",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write to; by default cues-FORMAT.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only cues that meet an SQL condition, such as duration_s > 2.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only cues with this label; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of cues, the first by their ids.")] = None,
) -> None:
    """Export cues as textual-inversion files, with a model card and the licences of the recordings."""
    from aai.jobs.selection import CueFilter
    from flows.app.export import export as write_files

    with sentences():
        run, chosen = open_at(config, changes), CueFilter(labels=tuple(label or ()), where=where or None)
        with progress(run):
            done = write_files(run, output or Path(f"cues-{program}"), program, chosen, limit)
    if done.remark:
        remark(done.remark)
    typer.echo(done.sentence)


@bank.command(epilog="Example: `aai bank compact -c aai.yaml`")
def compact(config: ConfigPath = DEFAULT, changes: Changes = None) -> None:
    """Merge the many small Parquet files of the tables into few large ones; the rows stay the same."""
    from flows.app.maintenance import compact as merge_files

    with sentences():
        run = open_at(config, changes)
        with progress(run):
            lines = merge_files(run)
    typer.echo("\n".join(lines))


@bank.command(epilog="Example: `aai bank prune --generations --removed --yes`")
def prune(  # noqa: PLR0913
    config: ConfigPath = DEFAULT,
    changes: Changes = None,
    generations: Annotated[
        bool, typer.Option(help="Also remove rows, shards and artifacts of earlier recipes.")
    ] = False,
    removed: Annotated[
        bool, typer.Option(help="Also remove the rows of files that are no longer in the source folders.")
    ] = False,
    older_than: Annotated[
        float,
        typer.Option(min=0, metavar="HOURS", help="Keep newer orphans: a run may be writing them."),
    ] = 24,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove the files; by default only print what would be removed.")
    ] = False,
) -> None:
    """Remove orphaned files, and on request earlier generations and the rows of removed source files."""
    from flows.app.maintenance import prune as remove

    with sentences():
        run = open_at(config, changes)
        lines = remove(run, generations, removed, older_than, dry_run=not yes)
    typer.echo("\n".join(lines))
