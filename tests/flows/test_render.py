"""`aai render` as a user calls it."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aai.workspace.shards import read_picture
from flows.app.cli import app
from flows.steps import render
from tests.bank import CLIPS, LABELS, add_cues, jobs_of, rows_of, run_on

JOBS = """
defaults: {steps: 2, seeds: 2}
jobs:
  - {name: noun, prompt: "a photo of *", format: jpg}
  - {name: rain, prompt: "a * city", cues: "label = 'rain' and duration_s > 1"}
  - {name: hail, prompt: "a * city", cues: {labels: hail}}
"""
NUM = 2 * len(CLIPS) + 2


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "render": {"guidance": 1}}
    Path("aai.yaml").write_text(yaml.safe_dump(keys | {"workspace": "bank"}))
    Path("jobs.yaml").write_text(JOBS)
    return add_cues(run_on(tmp_path / "bank"))


def call(*arguments):
    return CliRunner().invoke(app, ["render", *arguments])


def test_jobs_become_pictures_once(run, prefect_api):
    before = call("jobs.yaml", "--dry-run")
    assert before.exit_code == 0 and f"{NUM} pictures new (unknown time), 0 done" in before.output
    assert rows_of(run) == []
    done = call("jobs.yaml")
    assert done.exit_code == 0, done.output
    assert "jobs.yaml: job 3 (hail): no cue passes its filter" in done.output
    assert "render" in done.output and f"{run.recipe('renders')}/*.tar" in done.output.replace("\n", "")
    rows = rows_of(run)
    assert len(rows) == NUM
    assert {(row["job"], row["format"]) for row in rows} == {("noun", "jpg"), ("rain", "png")}
    rain = {clip for row in rows if row["job"] == "rain" for clip in row["clip_ids"]}
    assert rain == {CLIPS[2]} and LABELS[2] == "rain"
    assert all(len(read_picture(run.workspace, row)) == row["num_bytes"] for row in rows)
    again = call("jobs.yaml")
    assert again.exit_code == 0 and f"nothing to do: {NUM} pictures done" in again.output
    Path("jobs.yaml").write_text(JOBS.replace("seeds: 2", "seeds: 3"))
    assert f"{NUM // 2} pictures new (about" in call("jobs.yaml", "--dry-run").output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {prompt: a photo}", "jobs.yaml: job 1: prompt: 'a photo' has no *"),
        ("- {prompt: '*', cues: lable = 1}", "jobs.yaml: job 1: cues.where: 'lable = 1' cannot be used"),
    ],
)
def test_a_bad_job_file_is_a_sentence_and_exit_code_2(run, text, said):
    Path("jobs.yaml").write_text(text)
    done = call("jobs.yaml")
    assert done.exit_code == 2 and said in done.output and "Traceback" not in done.output


def test_without_cues_the_sentence_says_what_to_run(run):
    Path("aai.yaml").write_text(Path("aai.yaml").read_text().replace("workspace: bank", "workspace: other"))
    done = call("jobs.yaml")
    assert done.exit_code == 2 and "run `aai build`" in done.output


def test_from_python_it_needs_no_server(run):
    [done] = render(run, jobs_of(run, {"limit": 2}))
    assert (done.stage, done.new) == ("render", 2)


def test_rendering_again_loads_no_model_no_ray_and_no_prefect(run):
    render(run, jobs_of(run, {"limit": 1}))
    Path("jobs.yaml").write_text("[{prompt: a photo of *, steps: 2, limit: 1}]")
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.app.cli import app\n"
        "print(CliRunner().invoke(app, ['render', 'jobs.yaml']).output.strip())\n"
        "print(*sorted({'torch', 'ray', 'prefect', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["nothing to do: 1 pictures done", ""]
