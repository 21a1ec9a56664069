"""The command line as a user calls it."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from aai.workspace.shards import read_picture
from flows.app.cli import app
from tests.bank import CLIPS, LABELS, add_cues, rows_of, run_on
from tests.collection import NUM_CLIPS, write_collection

ROOT = Path(__file__).parents[3]
JOBS = """
defaults: {steps: 2, seeds: 2}
jobs:
  - {name: noun, prompt: "a photo of *", format: jpg}
  - {name: rain, prompt: "a * city", cues: "label = 'rain' and duration_s > 1"}
  - {name: hail, prompt: "a * city", cues: {labels: hail}}
"""
NUM_PICTURES = 2 * len(CLIPS) + 2
QUICK = ("--set", "fit.method=mapper", "--set", "pool.num_workers=0", "--set", "metadata=said.csv")
CHANGES = ("--set", "retrieve.num_neighbours=2", "--set", "pools.fit.slice_size=1")


def commands() -> Iterator[tuple[str, Any]]:
    """All commands by the words that follow `aai`."""
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += [(f"{name} {word}".strip(), command.commands[word]) for word in command.commands]
        else:
            yield name, command


COMMANDS = dict(commands())
ARGUMENTS = {
    "render": ["jobs.yaml"],
    "imagine": ["rain.wav", "-c", "aai.yaml"],
    "align train": ["--text-only", "captions.txt", "-c", "aai.yaml"],
    "align eval": ["-c", "aai.yaml"],
    "evaluate sweep": ["sweep.yaml", "-c", "aai.yaml"],
}
CONFIGURED = [name for name, command in COMMANDS.items() if "config" in {param.name for param in command.params}]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def write_folder(folder: Path) -> Path:
    """Write a collection and a configuration."""
    write_collection(folder)
    keys = {"audio": "sounds", "images": "images", "metadata": "said.csv"}
    keys |= {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    (folder / "aai.yaml").write_text(yaml.safe_dump(keys))
    (folder / "jobs.yaml").write_text(JOBS)
    (folder / "sweep.yaml").write_text("vary: {steps: [0, 8]}")
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a collection and a configuration, in which commands are called."""
    monkeypatch.chdir(write_folder(tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> tuple[Path, list[Result]]:
    """A folder, and what `init`, `plan`, `build` and a second `build` said there; two rows of metadata name no file."""
    folder = write_folder(tmp_path_factory.mktemp("built") / "here")
    (folder / "aai.yaml").unlink()
    with (folder / "said.csv").open("a") as table:
        table.write("sounds/gone.flac,rain,0.5\nfire-0.9.flac,fire,0.5\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = [call("init", "--profile", "tiny")]
        done += [call(command, *QUICK, *CHANGES) for command in ("plan", "build", "build")]
    return folder, done


@pytest.fixture
def built(calls, monkeypatch) -> Path:
    """That folder, in which commands are called that change nothing."""
    monkeypatch.chdir(calls[0])
    return calls[0]


# Help


def test_the_commands_are_known():
    assert set(COMMANDS) >= {"init", "plan", "build", "render", "score", "report", "imagine", "demo", "doctor"}
    assert set(COMMANDS) >= {"bank export", "bank compact", "bank prune", "submit", "deploy"}
    assert set(CONFIGURED) == set(COMMANDS) - {"init", "demo", "submit", "evaluate ballot", "evaluate tally"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_calls_it(name):
    done = call(*name.split(), "--help")
    text = " ".join(done.output.split())
    assert done.exit_code == 0 and f"Example: aai {name}" in text.replace("`", "")
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_or_the_docs(name):
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert any(f"aai {name}" in path.read_text() for path in texts)


def test_every_parameter_has_a_help():
    for name, command in COMMANDS.items():
        for param in command.params:
            text = getattr(param, "help", None)
            assert text, f"aai {name}: {param.name}"


# --set


@pytest.mark.parametrize("name", CONFIGURED)
def test_every_command_with_a_configuration_takes_changes_and_names_a_wrong_key(folder, name):
    done = call(*name.split(), *ARGUMENTS.get(name, []), "--set", "fit.step=3")
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert "fit.step: there is no such key" in " ".join(done.output.split())


def test_a_change_replaces_a_key_and_leaves_the_others(built):
    assert planned("--set", "retrieve.num_neighbours=2") == {}
    assert planned().keys() == {"retrieve", "fit", "confidence"}
    assert planned("--set", "retrieve={num_neighbours: 2}") == {}
    assert planned("--set", "retrieve.num_neighbours=1", "--set", "retrieve.num_neighbours=2") == {}


def planned(*changes: str) -> dict[str, int]:
    """The new items of each stage that has any, as `aai plan` prints them."""
    done = call("plan", *QUICK, *changes)
    assert done.exit_code == 0, done.output
    return counts(done)


def counts(plan: Result) -> dict[str, int]:
    """The new items of each stage that has any in a printed plan."""
    rows = [line.replace("│", " ").split() for line in plan.output.splitlines() if line.startswith("│")]
    return {row[0]: int(row[2]) for row in rows if row[2] != "0"}


def test_a_change_may_be_a_list_or_a_path_beside_the_configuration(folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    done = call("plan", "-c", str(folder / "aai.yaml"), "--set", "audio=[sounds/rain-0.2.flac, sounds/fire-0.2.flac]")
    assert done.exit_code == 0, done.output
    [row] = [line.replace("│", " ").split() for line in done.output.splitlines() if "│ ingest_audio" in line]
    assert row[2] == "2"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("fit", "--set: 'fit' is not KEY=VALUE: write for example fit.steps=3"),
        ("=3", "--set: '=3' is not KEY=VALUE"),
        ("fit..steps=3", "--set: 'fit..steps=3' is not KEY=VALUE"),
        ("fit={steps: 1, steps: 2}", "--set fit.steps: line 1: it is given a second time"),
        ("fit.steps=[3", "--set fit.steps: not a YAML value: line 1, column 1: expected"),
        ("fit.steps=-1", "fit.steps: -1: input should be greater than or equal to 0"),
        ("fit=3", "fit: 3 is not a section: write its keys and values below it"),
        ("pools.fitt.slice_size=3", "pools.fitt: there is no such stage"),
        ("profile=huge", "profile: there is no 'huge': choose one of tiny, sd15, sdxl"),
    ],
)
def test_a_wrong_change_is_a_sentence_and_exit_code_2(folder, change, sentence):
    done = call("plan", "--set", change)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert sentence in " ".join(done.output.split())


def test_a_configuration_is_written_with_its_folder_but_not_below_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("init", "--profile", "tiny", "new/aai.yaml").exit_code == 0 and Path("new/aai.yaml").exists()
    done = call("init", "--profile", "tiny", "new/aai.yaml/aai.yaml")
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert "new/aai.yaml/aai.yaml: PATH: " in " ".join(done.output.split())


# Build


def test_a_bank_is_planned_built_and_examined(calls, built):
    _, (init, plan, build, again) = calls
    assert [done.exit_code for done in (init, plan, build, again)] == [0] * 4, build.output
    assert counts(plan)["fit"] == NUM_CLIPS
    assert f"the bank is {built}/bank" in build.output.replace("\n", "")
    assert "nothing to do" in again.output
    assert call("doctor", *QUICK).exit_code == 1, "rows of metadata name no file"
    assert call("doctor", *QUICK, "--set", "metadata=[]").exit_code == 0


def test_a_configuration_is_asked_for_and_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = call("plan")
    assert missing.exit_code == 2 and "aai.yaml: there is no such file: `aai init` writes one" in missing.output
    assert call("init").exit_code == 0
    second = call("init")
    assert second.exit_code == 2 and "aai.yaml exists" in second.output


def test_metadata_that_matches_no_file_is_noted_by_plan_and_build(calls):
    for done in calls[1][1:]:  # the second build has nothing to do
        assert " ".join(done.output.split()).count("rows name a file that is there; for example line") == 1


# Render


@pytest.fixture
def bank(folder):
    """A bank with cues in the folder."""
    Path("aai.yaml").write_text(
        yaml.safe_dump({"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "render": {"guidance": 1}})
    )
    return add_cues(run_on(folder / "bank"))


def test_jobs_become_pictures_once(bank):
    before = call("render", "jobs.yaml", "--dry-run")
    assert before.exit_code == 0 and f"{NUM_PICTURES} pictures new (unknown time: no run yet), 0 done" in before.output
    assert rows_of(bank) == []
    done = call("render", "jobs.yaml")
    assert done.exit_code == 0, done.output
    assert "jobs.yaml: job 3 (hail): " in done.output
    assert f"{bank.recipe('renders')}/png-*.tar" in done.output.replace("\n", "")
    rows = rows_of(bank)
    assert len(rows) == NUM_PICTURES
    assert {(row["job"], row["format"]) for row in rows} == {("noun", "jpg"), ("rain", "png")}
    rain = {clip for row in rows if row["job"] == "rain" for clip in row["clip_ids"]}
    assert rain == {CLIPS[2]} and LABELS[2] == "rain"
    assert all(len(read_picture(bank.workspace, row)) == row["num_bytes"] for row in rows)
    again = call("render", "jobs.yaml")
    assert again.exit_code == 0 and f"nothing to do: {NUM_PICTURES} pictures done" in again.output
    Path("jobs.yaml").write_text(JOBS.replace("seeds: 2", "seeds: 3"))
    assert f"{NUM_PICTURES // 2} pictures new (about" in call("render", "jobs.yaml", "--dry-run").output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- {prompt: 5}", "jobs.yaml: job 1: prompt: 5: write a text such as"),
        ("- {prompt: '*', cues: lable = 1}", "job 1: cues.where: 'lable = 1' cannot be used"),
        ("- {prompt: '*', cues: {labels: hail}}", "job 1: no cue passes its filter; the labels are "),
        ("- {prompt: '*', cues: {labels: hail}}", "aai: the jobs ask for no picture"),
        ("- prompt: * city", "put quotes around a text that begins with *"),
    ],
)
def test_a_bad_job_file_is_a_sentence_and_exit_code_2(bank, text, sentence):
    Path("jobs.yaml").write_text(text)
    done = call("render", "jobs.yaml")
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert sentence in " ".join(done.output.split())


def test_without_cues_the_sentence_says_what_to_run(bank):
    done = call("render", "jobs.yaml", "--set", "workspace=other")
    assert done.exit_code == 2 and "run `aai build`" in " ".join(done.output.split())


def test_rendering_again_loads_no_model_no_ray_and_no_prefect(bank):
    Path("jobs.yaml").write_text("[{prompt: a photo of *, steps: 2, limit: 1}]")
    assert call("render", "jobs.yaml").exit_code == 0
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.app.cli import app\n"
        "print(CliRunner().invoke(app, ['render', 'jobs.yaml']).output.strip())\n"
        "print(*sorted({'torch', 'ray', 'prefect', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["nothing to do: 1 pictures done", ""]


def test_a_build_without_sources_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("aai.yaml").write_text("workspace: bank\n")
    done = call("build")
    assert done.exit_code == 2 and "audio: no location is named" in done.output


def test_the_version_is_printed():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"aai {metadata.version('aai')}\n")
