"""Nothing heavy is imported until it is used."""

import subprocess
import sys

HEAVY = {"diffusers", "prefect", "ray", "torch", "transformers"}
LIGHT = [
    "aai",
    "aai.errors",
    "aai.identity",
    "aai.jobs.jobfile",
    "aai.media.audio",
    "aai.media.files",
    "aai.media.images",
    "aai.models.judge",
    "aai.profiles",
    "aai.retrieve.index",
    "aai.retrieve.neighbours",
    "aai.workspace",
    "tasks.stages",  # planning a run
    "tasks.views.plan",
    "tasks.views.report",
    "flows.steps",
    "flows.app.cli",
]
HELP = [
    "--help",
    "build --help",
    "render --help",
    "imagine --help",
    "bank --help",
    "bank export --help",
    "align train --help",
]


def loaded_by(code: str, modules: set[str]) -> list[str]:
    """Those of the modules that a process has loaded after it ran some code."""
    probe = f"import sys\n{code}\nprint(); print(*sorted({modules!r} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[-1].split()


def test_importing_a_module_loads_nothing_heavy():
    """One process for all of them: what it reports names the first module that loads something."""
    code = f"""
from importlib import import_module
for name in {LIGHT!r}:
    import_module(name)
    assert not (heavy := {HEAVY!r} & sys.modules.keys()), (name, heavy)"""
    assert loaded_by(code, HEAVY) == []


def test_importing_the_package_loads_next_to_nothing():
    assert loaded_by("import aai", HEAVY | {"duckdb", "numpy", "pyarrow", "pydantic"}) == []


def test_help_loads_nothing_heavy():
    heavy = HEAVY | {"duckdb", "faiss", "numpy", "pyarrow"}
    code = f"""
from flows.app.cli import app
for arguments in {HELP!r}:
    try:
        app(arguments.split())
    except SystemExit as end:
        assert end.code == 0
    assert not (heavy := {heavy!r} & sys.modules.keys()), (arguments, heavy)"""
    assert loaded_by(code, heavy) == []
