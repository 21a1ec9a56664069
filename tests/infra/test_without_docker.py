"""The script that builds the image without a container engine follows the Dockerfile."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "infra" / "docker"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("without_docker", FOLDER / "without_docker.py")
    sys.modules["without_docker"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["without_docker"]


def test_it_knows_every_instruction_of_the_dockerfile(script):
    found = list(script.instructions((FOLDER / "Dockerfile").read_text()))
    assert {name for name, _ in found} <= set(script.KNOWN)
    assert ("USER", "10001") in found and found[-1] == ("CMD", '["aai", "--help"]')


def test_a_command_over_several_lines_is_one_instruction(script):
    text = "# a comment\nFROM base AS build\nRUN one \\\n    # not part of it\n    && two\n\nUSER 1\n"
    assert list(script.instructions(text)) == [("FROM", "base AS build"), ("RUN", "one && two"), ("USER", "1")]


def test_the_image_gets_the_files_of_the_repository_that_it_needs(script):
    files = script.files()
    assert {"pyproject.toml", "flows/app/cli.py", "infra/prefect/prefect.yaml"} <= set(files)
    assert not [path for path in files if path.startswith(("tests/", "bench/"))]
