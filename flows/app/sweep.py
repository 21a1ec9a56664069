"""`aai evaluate sweep`: where more compute stops helping. Heavy modules are imported by the command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.app.terminal import announce, at_work, remark, sentences

if TYPE_CHECKING:
    from tasks.evaluate.sweep import Sweep

BankConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration of the bank, in place of the file's.")
]
OutputFolder = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder to write to, in place of the file's.")
]


def sweep(
    description: Annotated[Path, typer.Argument(metavar="SWEEP", help="Description of the sweep (YAML).")],
    config: BankConfig = None,
    output: OutputFolder = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a key of the bank's configuration; repeatable."),
    ] = None,
) -> None:
    """Quality against steps, rows, neighbours, training clips and candidates, and which value is enough.

    It writes recommended.yaml with these values: `include: sweep/recommended.yaml` in aai.yaml makes them its defaults.
    """
    with sentences():
        from flows.app.opening import changed
        from flows.steps import check_sources
        from tasks.evaluate.folder import check_folder
        from tasks.evaluate.recommended import usage
        from tasks.evaluate.sweep import chooser_of, load_sweep, open_sweep, swept
        from tasks.evaluate.sweep_output import OURS, PAGE, write_sweep

        given: dict[str, Any] = {"config": config, "output": output}
        options = load_sweep(description, {name: str(path) for name, path in given.items() if path})
        check_folder(options.output, OURS)
        comparisons = {}
        settings = open_sweep(options, changed({}, changes))
        for setting, opened in settings.items():
            check_sources(opened.base)
            opened.announce = announce
            with at_work(opened.base):
                comparisons[setting] = opened.run()
        found = swept(options, comparisons, chooser_of(settings))
        write_sweep(Path(options.output), found)
        hints = usage(options, found, next(iter(settings.values())).base.config)
    _show(found)
    for note in found.notes:
        remark(note)
    typer.echo(f"wrote {Path(options.output) / PAGE}")
    for hint in hints:
        typer.echo(hint)


def _show(found: "Sweep") -> None:
    """A table per setting: each quality with half of its interval, and a star where it is below the best."""
    from rich.console import Console
    from rich.table import Table

    from tasks.evaluate.sweep_output import gains_of
    from tasks.evaluate.tables import with_interval

    for setting, enough in found.enough.items():
        own = [curve for curve in found.curves if curve.setting == setting]
        titles = [each.title + ("" if each.is_independent else "\n(not independent)") for each in own]
        table = Table(setting, *titles, "seconds per clip")
        for value in sorted({point.value for each in own for point in each.curve.points}):
            points = [next((point for point in each.curve.points if point.value == value), None) for each in own]
            cells = [
                with_interval(point.quality.value, point.quality.low, point.quality.high) + "*" * point.is_below
                if point
                else ""
                for point in points
            ]
            seconds = found.seconds.get(setting, {}).get(value)
            table.add_row(str(value), *cells, "" if seconds is None else f"{seconds:.3g}")
        Console().print(table)
        for gain in gains_of(found, setting):
            typer.echo(gain)
        which = "quality" if all(each.is_independent for each in own) else "independent quality"
        typer.echo(f"{setting}: {enough} is enough: no {which} is distinguishably below its best")
    typer.echo("in parentheses: 95 % interval over clips; *: below the best value, paired by clip")
