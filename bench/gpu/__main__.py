"""Measure what a GPU shows, beside the plain libraries and the model alone, and write JSON and a table.

    python -m bench.gpu [--only embed,fit] [--out gpu.json] [--time 480] [--folder DIR] [--keep]
    python -m bench.gpu --small

Every part is a process of its own with a limit of time: an error or a crash of one is recorded, and the others go on.
Models have random weights and full size; they are written to a temporary folder first, and so are all files. `--small`
takes the tiny models, in this process, on a CPU: it shows that everything works.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bench.gpu.rows import Measured, complete, markdown, write

if TYPE_CHECKING:
    from bench.gpu.setting import Setting

_ROOT = Path(__file__).parents[2]
_ERROR_LINES = 5


@dataclass(frozen=True)
class Part:
    """Rows that are measured together."""

    name: str
    function: str
    """In which module of this package, and its name there."""
    models: tuple[str, ...]
    takes_s: int
    """About, on one H200 with 16 cores."""
    at_most_s: int


PARTS = (
    Part("placement", "placed:measure", (), 10, 120),
    Part("embed", "embed:measure", ("clip", "clap"), 60, 120),
    Part("fit", "fit:measure", ("sd15", "clip", "clap"), 110, 240),
    Part("render", "pictures:measure", ("sd15", "clip", "clap"), 110, 180),
    Part("sdxl", "pictures:measure_large", ("sdxl", "clip", "clap"), 65, 120),
    Part("search", "search:measure", (), 25, 60),
    Part("next", "placed:measure_next", ("sd15", "clip", "clap"), 45, 90),
)


def measure(part: Part, setting: "Setting") -> Iterator[Measured]:
    """Measure a part in this process."""
    module, _, function = part.function.partition(":")
    run: Callable[[Setting], Iterator[Measured]] = getattr(import_module(f"bench.gpu.{module}"), function)
    yield from run(setting)


def measure_here(parts: Sequence[Part], folder: Path) -> tuple[list[Measured], dict[str, str]]:
    """All parts in this process, with tiny models: what was measured, and the errors of parts that failed."""
    from bench.gpu.setting import say, small_setting, summary_of, write_models

    measured: list[Measured] = []
    errors: dict[str, str] = {}
    for part in parts:
        say(f"{part.name} …")
        setting = small_setting(folder / part.name)
        setting.folder.mkdir(parents=True)
        try:
            write_models(setting, part.models)
            for each in measure(part, setting):
                measured.append(each)
        except Exception as error:  # noqa: BLE001 - recorded
            errors[part.name] = summary_of(error)
            say(f"{part.name}: {errors[part.name]}")
    return measured, errors


def measure_apart(parts: Sequence[Part], folder: Path, limit_s: float) -> tuple[list[Measured], dict[str, str]]:
    """Each part in a process of its own, as long as there is time."""
    from bench.gpu.setting import Setting, say, write_models

    folder.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + limit_s
    names = sorted({name for part in parts for name in part.models})
    say(f"models: {', '.join(names) or 'none'} (half a minute) …")
    write_models(Setting(folder), names)
    measured: list[Measured] = []
    errors: dict[str, str] = {}
    for part in parts:
        left_s = end_s - time.monotonic()
        if left_s < part.takes_s / 2:
            errors[part.name] = f"left out: {max(left_s, 0):.0f} s were left of --time"
            continue
        say(f"{part.name}: about {part.takes_s} s, at most {min(left_s, part.at_most_s):.0f} s …")
        own, error = _in_process(part, folder, min(left_s, part.at_most_s))
        measured += own
        errors |= {part.name: error} if error else {}
        say(*(markdown({}, [each]).splitlines()[4] for each in complete(own, [part.name], errors)), sep="\n")
    return measured, errors


def _in_process(part: Part, folder: Path, limit_s: float) -> tuple[list[Measured], str]:
    """Run a part in a process; what it had measured before an error or the end of its time counts."""
    lines = folder / f"{part.name}.jsonl"
    lines.write_text("")
    log = folder / f"{part.name}.log"
    command = [sys.executable, "-m", "bench.gpu", "--part", part.name, "--folder", str(folder)]
    paths = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)  # for Ray's workers
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=_ROOT, env=os.environ | {"PYTHONPATH": paths}, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(limit_s)
            error = f"exit code {code}: {_end_of(log)}" if code else ""
        except subprocess.TimeoutExpired:
            process.terminate()
            error = f"it took longer than {limit_s:.0f} s"
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    return [Measured(**json.loads(line)) for line in lines.read_text().splitlines()], error


def _end_of(log: Path) -> str:
    """The last lines of a log, in one."""
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-_ERROR_LINES:])[-500:]


def _as_child(part: Part, folder: Path) -> None:
    """Measure a part, and write each row once it is there."""
    from bench.gpu.setting import Setting

    own = folder / part.name
    shutil.rmtree(own, ignore_errors=True)  # of an earlier try
    own.mkdir()
    (own / "models").symlink_to(folder / "models")
    with (folder / f"{part.name}.jsonl").open("a") as lines:
        for each in measure(part, Setting(own)):
            lines.write(json.dumps(asdict(each)) + "\n")
            lines.flush()
    shutil.rmtree(own)


def _chosen(only: str) -> list[Part]:
    """The parts with these names.

    Raises:
        SystemExit: there is no such part.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = sorted(set(names) - {part.name for part in PARTS})
    if unknown:
        sys.exit(f"there is no part {unknown[0]}: choose from {', '.join(part.name for part in PARTS)}")
    return [part for part in PARTS if not names or part.name in names]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"parts, of {','.join(part.name for part in PARTS)}")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON; the table is beside it, as .md")
    parser.add_argument("--time", type=float, default=480, help="seconds for all parts together")
    parser.add_argument("--folder", type=Path, help="for models and files; a new one below the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder, to measure again with its models")
    parser.add_argument("--commit", help="the commit that is measured, where there is no git")
    parser.add_argument("--small", action="store_true", help="tiny models, in this process")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        _as_child(_chosen(given.part)[0], given.folder)
        return
    start_s, parts = time.monotonic(), _chosen(given.only)
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="bench-gpu-"))).absolute()
    try:
        if given.small:
            measured, errors = measure_here(parts, folder)
        else:
            measured, errors = measure_apart(parts, folder, given.time)
    finally:
        if not given.keep and not given.folder:
            shutil.rmtree(folder, ignore_errors=True)
    from bench.gpu.machine import facts

    machine = facts(given.commit) | {"seconds in all": round(time.monotonic() - start_s)}
    rows = complete(measured, [part.name for part in parts], errors)
    write(given.out, machine, rows)
    print(markdown(machine, rows))


if __name__ == "__main__":
    main()
