"""`aai bank export` as a user calls it, and what the programs make of its files."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file
from transformers import CLIPTokenizer
from typer.testing import CliRunner

from aai.errors import BadConfig
from aai.export import CARD, INDEX, name_of
from aai.export.files import METADATA_KEY
from aai.models.diffusion import load_diffusion
from aai.models.options import RenderOptions
from flows.app.cli import app
from flows.app.export import export
from tasks.runtime.run import Run
from tests.bank import CLIPS, DIM, add_cues, run_on
from tests.models import shrunk

DIMS = {"tiny": [DIM], "sd15": [shrunk.DIM], "sdxl": [shrunk.DIM, shrunk.DIM_2]}
PROGRAMS = ("diffusers", "a1111", "comfyui")
SEED, OPTIONS = 3, RenderOptions(steps=4, guidance=9)
METADATA = {
    "label": ["Heavy rain!", "雨", "fire/wood", "embedding:(x)", None],
    "licence": ["CC-BY 4.0", "CC0", None, "CC0", "CC0"],
    "attributes": ['{"author": "Ann"}', None, "{}", "{}", "{}"],
    "uri": ["/home/ann/roof.flac"] * 5,
}


@dataclass(frozen=True)
class Bank:
    """A bank of one kind of model, and an export of it for each program."""

    run: Run
    model: Path
    dims: list[int]
    folders: dict[str, Path]

    def vectors(self) -> dict[str, np.ndarray]:
        """The vectors of each cue by the names of its files."""
        rows = self.run.workspace.table("cues").read(["clip_id", "vector"], self.run.recipe("cues")).to_pylist()
        labels = dict(zip(CLIPS, METADATA["label"], strict=True))
        return {
            name_of(row["clip_id"], labels[row["clip_id"]]): np.float32(row["vector"]).reshape(2, sum(self.dims))
            for row in rows
        }


@pytest.fixture(scope="module", params=DIMS)
def bank(request, tmp_path_factory) -> Bank:
    work, dims = tmp_path_factory.mktemp("work"), DIMS[request.param]
    given = {}
    if request.param != "tiny":
        given = {"models": {"diffusion": str(request.getfixturevalue(f"{request.param}_folder"))}}
    run = add_cues(run_on(work / "bank", **given), dim=sum(dims), **METADATA)
    folders = {program: work / program for program in PROGRAMS}
    for program, folder in folders.items():
        assert export(run, folder, program).new == len(CLIPS)
    return Bank(run, Path(run.config.models.diffusion.name), dims, folders)


def read_by_a1111(path: Path) -> list[np.ndarray]:
    """A cue's rows for each text encoder: both of SDXL by name, else the only tensor."""
    held = load_file(path)
    if "clip_l" in held and "clip_g" in held:
        return [held["clip_l"], held["clip_g"]]
    assert len(held) == 1, "more terms than one"
    return list(held.values())


def read_by_comfyui(folder: Path, word: str, key: str) -> np.ndarray:
    """A cue's rows for the text encoder of a key, else the first there are; `word` is a word of a prompt."""
    name = word.removeprefix("embedding:").strip(",")
    held = load_file(folder / f"{name}.safetensors")
    return held[key] if key in held else next(iter(held.values()))


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_programs_read_the_banks_numbers(bank, program):
    """From the files of each format: A1111 and ComfyUI by their rules, diffusers by taking a file's only tensor."""
    ends = np.cumsum(bank.dims)[:-1]
    for name, rows in bank.vectors().items():
        parts = np.split(rows, ends, axis=1)
        file = bank.folders[program] / f"{name}.safetensors"
        held = load_file(file)
        assert len(held) == len(parts) and (len(parts) == 1 or held.keys() == {"clip_l", "clip_g"})
        assert all(map(np.array_equal, read_by_a1111(file), parts))
        for key, part in zip(("clip_l", "clip_g"), parts, strict=False):
            assert np.array_equal(read_by_comfyui(file.parent, f"embedding:{name},", key), part)


def test_a1111_finds_a_name_and_no_other_among_a_prompts_tokens(bank):
    tokenizer = CLIPTokenizer.from_pretrained(bank.model / "tokenizer")

    def tokens(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    names = list(bank.vectors())
    for name in names:
        for prompt in ("a photo of {}", "{}, dark", "a ({}:1.2) city"):
            ids = tokens(prompt.format(name))
            assert [other for other in names if _is_in(tokens(other), ids)] == [name]


def _is_in(part: list[int], whole: list[int]) -> bool:
    return any(whole[first : first + len(part)] == part for first in range(len(whole)))


def test_plain_diffusers_draws_our_pictures(bank, monkeypatch):
    """By the code of the card, but for the sampler's settings."""
    folder = bank.folders["diffusers"]
    (folder / bank.run.revision("diffusion")[0]).symlink_to(bank.model)
    monkeypatch.chdir(folder)
    code = re.search(r"```python\n(.*?)image = pipe\((.*?)\)\.images", Path(CARD).read_text(), re.DOTALL)
    scope: dict = {}
    exec(code[1], scope)
    pipe, prompt = scope["pipe"], eval(code[2], scope)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt,
        generator=torch.Generator().manual_seed(SEED),
        num_inference_steps=OPTIONS.steps,
        guidance_scale=OPTIONS.guidance,
        output_type="np",
    ).images
    diffusion = load_diffusion(bank.model)
    ours, others = (
        diffusion.render(["a photo of *"], [SEED], torch.from_numpy(rows)[None], options=OPTIONS).astype(float)
        for _, rows in sorted(bank.vectors().items())[:2]
    )
    assert np.abs(theirs * 255 - ours).max() < 0.501  # ours are rounded to whole numbers
    assert np.abs(ours - others).max() > 5


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.chdir(tmp_path)
    keys = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "render": {"guidance": 1}}
    Path("aai.yaml").write_text(yaml.safe_dump(keys | {"workspace": "bank"}))
    return add_cues(run_on(tmp_path / "bank"), **METADATA)


def call(*arguments):
    return CliRunner().invoke(app, ["bank", "export", *arguments])


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """What is in a folder, and which file and of when each is."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_second_export_writes_nothing(run):
    done = call("--format", "a1111")
    assert done.exit_code == 0, done.output
    assert "5 cues written to cues-a1111; 1 have no known licence: README.md" in done.output
    before = seen(Path("cues-a1111"))
    assert len(before) == 7 and {INDEX, CARD} < before.keys()
    again = call("--format", "a1111")
    assert "0 cues written to cues-a1111, 5 existed already" in again.output
    assert seen(Path("cues-a1111")) == before


def test_an_export_that_was_cut_short_goes_on(run):
    call("-o", "whole")
    call("-o", "some")
    first, second = sorted(Path("some").glob("*.safetensors"))[:2]
    for lost in (first, Path("some", INDEX), Path("some", CARD)):
        lost.unlink()
    Path("some", f".{first.name}.part").write_bytes(b"half")
    kept = seen(Path("some"))[second.name]
    assert "1 cues written to some, 4 existed already" in call("-o", "some").output
    assert seen(Path("some"))[second.name] == kept
    names = {path.name for path in Path("whole").iterdir()}
    assert {path.name for path in Path("some").iterdir()} == names
    assert all(Path("some", name).read_bytes() == Path("whole", name).read_bytes() for name in names)


def test_a_filter_and_a_limit_choose_and_later_exports_add(run):
    assert "1 cues" in call("-o", "out", "--where", "duration_s between 1.5 and 2.5").output
    assert "1 cues" in call("-o", "out", "--label", "fire/wood").output
    some = call("-o", "some", "--label", "fire/wood", "--label", "fir")
    assert "the filter of export has: label fir; the labels are" in " ".join(some.output.split())
    with Path("out", INDEX).open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["label"], row["duration_s"], row["licence"]) for row in rows] == [
        ("雨", "2.0", "CC0"),
        ("fire/wood", "3.0", ""),
    ]
    assert "2 AudioCues" in Path("out", CARD).read_text()
    call("-o", "first", "--limit", "2")
    kept = [path.stem.rsplit("-", 1)[1] for path in Path("first").glob("*.safetensors")]
    assert sorted(kept) == [clip[:12] for clip in sorted(CLIPS)[:2]]


def test_the_licence_goes_into_each_file(run):
    call("-o", "out")
    with safe_open(Path("out", f"{name_of(CLIPS[0], METADATA['label'][0])}.safetensors"), "np") as file:
        stored = json.loads(file.metadata()[METADATA_KEY])
    assert (stored["licence"], stored["attribution"], stored["recording"]) == (
        "CC-BY 4.0",
        "author: Ann",
        "roof.flac",
    )
    assert stored["base_revision"] == run.revision("diffusion")[1] and stored["label"] == "Heavy rain!"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--where", "lable = 1"), "export.where: 'lable = 1' cannot be used"),
        (("--label", "hail"), "export: the filter selects no cue"),
        (("-o", "aai.yaml"), "aai.yaml/cues.csv: it cannot be read (Not a directory): choose another folder"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence_and_exit_code_2(run, arguments, sentence):
    done = call(*arguments)
    assert done.exit_code == 2 and sentence in done.output and "Traceback" not in done.output


def test_a_bank_without_cues_says_what_to_run(tmp_path):
    with pytest.raises(BadConfig, match="no cues of this configuration: run `aai build`") as error:
        export(run_on(tmp_path / "bank"), tmp_path / "out")
    assert error.value.key == "workspace" and not (tmp_path / "out").exists()


def test_it_loads_no_model_and_its_help_has_an_example(run):
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.app.cli import app\n"
        "print(CliRunner().invoke(app, ['bank', 'export', '--help']).output)\n"
        "print(CliRunner().invoke(app, ['bank', 'export', '--label', 'fire/wood']).output.strip())\n"
        "print(*sorted({'torch', 'ray', 'prefect', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "Example: aai bank export --format comfyui" in ran.stdout
    written, heavy, _ = ran.stdout.split("\n")[-3:]
    assert written.startswith("1 cues written to cues-diffusers") and heavy == ""
