"""The run that a command works on: its configuration file, with the changes of `--set`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tasks.runtime.run import Run

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="Configuration file; `aai init` writes one.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Replace a key of the configuration, such as fit.steps=3; repeatable."
    ),
]
DEFAULT = Path("aai.yaml")


def nearby(path: Path | None, otherwise: str) -> Path | None:
    """The configuration that a command works with whose `-c` may be left out: then ./aai.yaml, if it is there.

    What is used without having been named is said in a line, with what `otherwise` says where there is no file.
    """
    from flows.app.terminal import remark

    if path is not None:
        return path
    if not DEFAULT.exists():
        remark(f"{otherwise}: there is no {DEFAULT} here, and -c names none")
        return None
    remark(f"with the configuration {DEFAULT} of this folder")
    return DEFAULT


def open_at(path: Path, changes: list[str] | None) -> "Run":
    """The run of a configuration file.

    Raises:
        BadConfig: the file or a change is wrong.
    """
    from tasks.stages import open_file

    return open_file(path, changed({}, changes))


def changed(keys: dict[str, object], changes: list[str] | None) -> dict[str, object]:
    """Keys with the values of `--set`.

    Raises:
        BadConfig: one is not KEY=VALUE, or its value is not YAML.
    """
    from tasks.runtime.config import merge, parse_change

    for change in changes or ():
        keys = merge(keys, parse_change(change))
    return keys
