"""`aai evaluate sweep`: where more compute stops helping. Heavy modules are imported by the command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.app.terminal import at_work, remark, sentences

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
    """Quality against steps, rows, neighbours, training clips and candidates, and which value is enough."""
    with sentences():
        from flows.app.opening import changed
        from flows.steps import check_sources
        from tasks.evaluate.sweep import load_sweep, open_sweep, swept
        from tasks.evaluate.sweep_output import PAGE, write_sweep

        given: dict[str, Any] = {"config": config, "output": output}
        options = load_sweep(description, {name: str(path) for name, path in given.items() if path})
        comparisons = {}
        for setting, opened in open_sweep(options, changed({}, changes)).items():
            check_sources(opened.base)
            with at_work(opened.base):
                comparisons[setting] = opened.run()
        found = swept(options, comparisons)
        write_sweep(Path(options.output), found)
    _show(found)
    for note in found.notes:
        remark(note)
    typer.echo(f"wrote {Path(options.output) / PAGE}")


def _show(found: "Sweep") -> None:
    """A table per setting: each quality with half of its interval, and a star where it is below the best."""
    from rich.console import Console
    from rich.table import Table

    from tasks.evaluate.tables import number

    for setting, enough in found.enough.items():
        own = [curve for curve in found.curves if curve.setting == setting]
        titles = [each.title + ("" if each.is_independent else "\n(not independent)") for each in own]
        table = Table(setting, *titles, "seconds per clip")
        for value in sorted({point.value for each in own for point in each.curve.points}):
            points = [next((point for point in each.curve.points if point.value == value), None) for each in own]
            cells = [
                f"{number(point.quality.value)} ({number(point.quality.low)} to {number(point.quality.high)})"
                f"{'*' if point.is_below else ''}"
                if point
                else ""
                for point in points
            ]
            seconds = found.seconds.get(setting, {}).get(value)
            table.add_row(str(value), *cells, "" if seconds is None else f"{seconds:.3g}")
        Console().print(table)
        typer.echo(f"{setting}: {enough} is enough: no quality is distinguishably below its best")
    typer.echo("in parentheses: 95 % interval over clips; *: below the best value, paired by clip")
