"""Repository rules that no linter checks."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = [name for name in ("aai", "tasks", "flows") if (ROOT / name).is_dir()]
MODULES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_LINES = 400


def test_no_module_is_too_long():
    num_lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: num for path, num in num_lines.items() if num > MAX_LINES} == {}


def test_no_module_needs_pandas_which_is_no_dependency():
    assert [str(path) for path in MODULES if re.search(r"import pandas|\.to_pandas\(", path.read_text())] == []


def test_the_layers_of_every_package_are_checked():
    assert PROJECT["tool"]["importlinter"]["root_packages"] == sorted(PACKAGES)


def test_every_dependency_is_locked_to_one_version():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    wanted = {_name(line) for group in groups for line in group}
    locked = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in locked if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert wanted - {_name(line) for line in locked} == set()


def _name(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()
