"""`aai evaluate`: methods compared. Heavy modules are imported by the commands that need them.

A comparison writes a folder:

    results.json     all figures with their intervals
    results.md       the same as tables
    index.html       a page: one row per clip, methods side by side
    pictures/        the pictures
    sounds/          the clips
    cells.parquet    a row per clip, method, prompt and seed: clip_id, clip_uri, label, method, prompt, seed, image and
                     sound (paths relative to the folder), and a column per metric, null where it is not measured
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from flows.app.ballot import ballot, tally
from flows.app.sweep import BankConfig, OutputFolder, sweep
from flows.app.terminal import announce, at_work, remark, sentences

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.evaluate.output import Comparison

_TITLE_WIDTH, _NUMBER_WIDTH, _PADDING = 24, 13, 3
"""Characters of the column of titles, of a figure such as -6.04e-05*, and around each."""


class _WithDefault(TyperGroup):
    """Without the name of a command the first argument is that of `compare`; `--ballot` is the command `ballot`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert or complete the name of the command."""
        first = args[0] if args else ""
        if first.startswith("--") and first[2:] in self.commands:
            args = [first[2:], *args[1:]]
        elif args and first not in self.commands and first not in ("--help", "-h"):
            args = ["compare", *args]
        return super().parse_args(ctx, args)


evaluate = typer.Typer(
    help="Compare methods on the same clips, prompts and seeds.", cls=_WithDefault, no_args_is_help=True
)


@evaluate.command(epilog="Example: `aai evaluate compare.yaml`, or `aai evaluate compare -c aai.yaml`")
def compare(
    comparison: Annotated[
        Path | None, typer.Argument(help="Description of the comparison (YAML); without one the default methods.")
    ] = None,
    config: BankConfig = None,
    output: OutputFolder = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Replace a key of the bank's configuration for all methods; repeatable."
        ),
    ] = None,
) -> None:
    """Compare methods: figures with intervals, seconds per clip, and a page. A second call does only what is new."""
    with sentences():
        from flows.app.opening import changed
        from flows.steps import check_sources
        from tasks.evaluate.compare import open_comparison
        from tasks.evaluate.options import load_comparison

        given: dict[str, Any] = {"config": config, "output": output}
        options = load_comparison(comparison, {name: str(path) for name, path in given.items() if path})
        opened = open_comparison(options, changed({}, changes))
        opened.announce = announce
        check_sources(opened.base)
        with at_work(opened.base):
            done = opened.run()
    _show(done)
    for note in done.notes:
        remark(note)
    folder = Path(done.folder)
    folder = folder.resolve() if ".." in folder.parts else folder
    typer.echo(f"{'wrote' if done.is_new else 'nothing to do:'} {folder}/index.html")


evaluate.command(epilog="Example: `aai evaluate sweep sweep.yaml`")(sweep)
evaluate.command(epilog="Example: `aai evaluate ballot comparison`, or `aai evaluate --ballot comparison`")(ballot)
evaluate.command(epilog="Example: `aai evaluate tally votes-*.json`, or `aai evaluate --tally votes-*.json`")(tally)


def _show(done: "Comparison") -> None:
    """Tables with a column per method, as many side by side as the terminal has room for."""
    from rich.console import Console

    from tasks.evaluate.tables import ARROWS_EXPLAINED, lines_of

    console = Console()
    width = max(map(len, done.methods), default=0) + _PADDING
    num = max(1, (console.width - _TITLE_WIDTH) // max(width, _NUMBER_WIDTH))
    for first in range(0, len(done.methods), num):
        console.print(_table(done, done.methods[first : first + num]))
    lines = lines_of(done.figures, done.methods)
    typer.echo(f"{done.num_clips:,} clips; intervals are over them")
    typer.echo(f"{ARROWS_EXPLAINED}; of rank and slope 1 is best, of bias 0; the page says what each figure means")
    typer.echo(f"±: half of the 95 % interval over clips; *: differs from {done.reference}, paired by clip")
    if any(not line.is_independent for line in lines):
        typer.echo("not independent: measured by the encoder that retrieved the images, which agrees with itself")


def _table(done: "Comparison", methods: Sequence[str]) -> "Table":
    """Each figure of some methods with half of its interval, and a star where it differs."""
    from rich.markup import escape
    from rich.table import Table

    from tasks.evaluate.tables import half_width, lines_of, number

    table = Table("figure")
    for method in methods:
        table.add_column(escape(method), justify="right", no_wrap=True)
    for line in lines_of(done.figures, methods):
        shown = [
            f"{number(figure.value)}{'*' if figure.is_significant else ''}\n{half_width(figure)}" if figure else ""
            for figure in line.figures
        ]
        table.add_row(line.title + ("" if line.is_independent else "\n(not independent)"), *shown)
    spent = [done.seconds.get(method) for method in methods]
    table.add_row("seconds per clip ↓", *("" if value is None else f"{value:.3g}" for value in spent))
    return table
