"""A model is identified by name and commit, a folder by a digest of the files that loading may read."""

import shutil
import subprocess
import sys

import pytest

from aai.errors import BadConfig
from aai.models.revisions import resolve_revision

COMMIT = "0123456789abcdef" * 2 + "01234567"
FILES = {"config.json": "{}", "merges.txt": "a b", "unet/model.safetensors": "weights", "README.md": "a model"}
DIGEST = "8ccf2ab89d38eeb3d3c19dda28da0092"
"""Of `FILES`: a change of the digest gives every bank with a model folder new recipes."""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "some-model"
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def test_a_model_on_the_hub_is_identified_by_its_commit():
    assert resolve_revision("someone/model", COMMIT) == ("someone/model", COMMIT)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc123", COMMIT.upper(), COMMIT + "0"])
def test_a_model_on_the_hub_needs_a_full_commit(revision):
    with pytest.raises(BadConfig, match="give a commit of 40 hex digits") as error:
        resolve_revision("someone/model", revision)
    assert error.value.uri == "someone/model"


def test_a_folder_has_no_revision(folder):
    with pytest.raises(BadConfig, match=f"a folder has no revision: remove {COMMIT}") as error:
        resolve_revision(folder, COMMIT)
    assert error.value.uri == str(folder)


def test_a_folder_is_identified_by_its_name_and_a_digest_wherever_it_is(folder, tmp_path):
    assert resolve_revision(folder, None) == ("some-model", DIGEST)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "some-model")
    assert resolve_revision(moved, None) == ("some-model", DIGEST)


@pytest.mark.parametrize("name", ["config.json", "merges.txt", "unet/model.safetensors"])
def test_a_file_that_is_read_changes_the_digest(folder, name):
    (folder / name).write_text("other")
    assert resolve_revision(folder, None)[1] != DIGEST
    (folder / name).rename(folder / name.replace("m", "n"))
    assert resolve_revision(folder, None)[1] != DIGEST


def test_replacing_bin_weights_changes_the_digest(folder):
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    before = resolve_revision(folder, None)[1]
    assert before != DIGEST
    (folder / "pytorch_model.bin").write_bytes(b"other weights")
    assert resolve_revision(folder, None)[1] not in (before, DIGEST)


def test_a_file_that_is_not_read_does_not_change_the_digest(folder):
    (folder / "README.md").write_text("another text")
    (folder / "picture.png").write_bytes(b"")
    assert resolve_revision(folder, None)[1] == DIGEST


def test_importing_the_module_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'diffusers', 'huggingface_hub'}"
    probe = f"import sys, aai.models.revisions; print(*sorted({heavy} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
