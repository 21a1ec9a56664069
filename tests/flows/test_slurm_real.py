"""A real Slurm makes the bank that one process makes, whatever it does to the job. It runs with `make chaos`.

`tests/slurm/cluster.sh up` makes two nodes on one Linux machine. On another cluster, give pytest a `--basetemp` that
all nodes see; the test that kills a task needs nodes on this machine.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import yaml

from aai.media.images import encode
from aai.tiny.scenes import Scene
from aai.tiny.scenes import render as draw
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run

ROOT = Path(__file__).parents[2]
NUM_CLIPS = 16
PHENOMENA = ("rain", "fire")
BUILT = (
    "image_files", "images", "audio_files", "clips", "image_vectors", "audio_vectors", "aligned_vectors", "neighbours",
    "cues",
)  # fmt: skip
KEYS = {
    "audio": "sounds",
    "images": "images",
    "retrieve": {"num_neighbours": 2},
    "confidence": {"method": "none"},
    "fit": {"method": "adapter", "steps": 48, "eval_every": 8, "rows_per_step": 1, "eval_rows": 2},
    "render": {"guidance": 1},
    "pool": {"slice_size": 1},
    "run": {"commit_slices": 1},
    "submit": {"nodes": 2, "tasks": 4, "cpus": 1, "gpus": 0, "memory_gib": 1, "hours": 1, "shared_disk": True},
}
MAX_DIFFERENCE = 1e-4  # of the largest number in a vector
PATIENCE_S = 1200  # the machine may be busy


def why_not() -> str:
    """Why there is no Slurm to test with; empty if there is."""
    if not shutil.which("sinfo"):
        return "Slurm is not installed"
    try:
        asked = subprocess.run(["sinfo", "--noheader", "--format=%A"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "sinfo does not answer"
    nums = [sum(map(int, line.split("/"))) for line in asked.stdout.split()]
    return "" if asked.returncode == 0 and sum(nums) >= 2 else "sinfo shows no two nodes (tests/slurm/cluster.sh up)"


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    if reason := why_not():
        pytest.skip(reason)


pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which all banks are built: the collection and the configuration."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "sounds").mkdir()
    (folder / "images").mkdir()
    kinds = [PHENOMENA[number % 2] for number in range(NUM_CLIPS)]
    for number, kind in enumerate(kinds):
        wave = synthesise(kind, (number + 1) / NUM_CLIPS, 700 + number)
        soundfile.write(folder / "sounds" / f"{number}.flac", wave, SAMPLE_RATE_HZ)
    scenes = [Scene("noun", kind, None, (number + 1) / NUM_CLIPS, number) for number, kind in enumerate(kinds)]
    for number, pixels in enumerate(draw(scenes).pixels):
        (folder / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))
    (folder / "aai.yaml").write_text(yaml.safe_dump(KEYS))
    (folder / "jobs.yaml").write_text("- prompt: a photo of *\n  steps: 2\n")
    return folder


@pytest.fixture(scope="module")
def alone(folder) -> Run:
    """The bank that a single process builds and renders from."""
    for command in ("build", "render jobs.yaml"):
        assert aai(folder, *on("alone", command), "--set", "pool.num_workers=0").wait(PATIENCE_S) == 0
    return run_on(folder, "alone")


def on(bank: str, command: str) -> tuple[str, ...]:
    return (*command.split(), "-c", "aai.yaml", "--set", f"workspace={bank}")


def aai(folder: Path, *words: str) -> subprocess.Popen:
    code = "from flows.app.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *words]
    with (folder / "aai.log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


class Job:
    """A command that was handed in with `--wait`."""

    def __init__(self, folder: Path, target: str, bank: str, command: str = "build", *changes: str) -> None:
        self._files = folder / "submissions"
        before = self._scripts()
        words = [*on(bank, command), *(word for change in changes for word in ("--set", change))]
        self.program = aai(folder, "submit", "--to", target, "--wait", "--", *words)
        wait_until(lambda: self._scripts() - before, self.program)
        (script,) = self._scripts() - before
        self.name = script.stem
        wait_until(self.states, self.program)

    def _scripts(self) -> set[Path]:
        return set(self._files.glob("*.sh"))

    def log(self) -> str:
        """What the command has printed, of all tasks."""
        return "".join(path.read_text() for path in self._files.glob(f"{self.name}-*.log"))

    def fields(self, name: str) -> list[str]:
        """A field of `scontrol show job`, of each task."""
        jobs = subprocess.run(["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True)
        own = [line for line in jobs.stdout.splitlines() if f"JobName={self.name} " in line]
        return [found[1] for line in own if (found := re.search(rf"\b{name}=(\S+)", line))]

    def states(self) -> list[str]:
        """The state of each task, in no order."""
        return sorted(self.fields("JobState"))

    def cancel(self) -> None:
        subprocess.run(["scancel", f"--name={self.name}"], check=True)

    def code(self) -> int:
        """The code with which `aai submit --wait` ends."""
        return self.program.wait(PATIENCE_S)


def wait_until(is_so: Callable[[], object], program: subprocess.Popen) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert program.poll() is None and time.monotonic() < end_s, "the job did not get there"
        time.sleep(0.5)


@pytest.fixture
def submitted(folder) -> Iterator[Callable[..., Job]]:
    """Submits a job; what still runs at the end of the test is cancelled."""
    jobs: list[Job] = []

    def submit(*words: str) -> Job:
        jobs.append(Job(folder, *words))
        return jobs[-1]

    yield submit
    for job in jobs:
        if job.program.poll() is None:
            job.cancel()
            job.code()


def run_on(folder: Path, bank: str) -> Run:
    changes = {"workspace": str(folder / bank), "audio": str(folder / "sounds"), "images": str(folder / "images")}
    return open_run(load_config(folder / "aai.yaml", changes))


def assert_same(run: Run, alone: Run, tables: tuple[str, ...] = BUILT) -> None:
    """Check that a bank has each id of the bank that one process made, once, with the same vectors."""
    for name in tables:
        key = SCHEMAS[name].id
        rows, others = (own.workspace.table(name).read(recipe=own.recipe(name)).sort_by(key) for own in (run, alone))
        ids = rows[key].to_pylist()
        assert len(set(ids)) == len(ids) == NUM_CLIPS and ids == others[key].to_pylist(), name
        if "vector" in rows.column_names:
            vectors, expected = to_array(rows["vector"]), to_array(others["vector"])
            assert np.abs(vectors - expected).max() <= MAX_DIFFERENCE * np.abs(expected).max(), name
        if "image_ids" in rows.column_names:
            assert rows["image_ids"].to_pylist() == others["image_ids"].to_pylist()
    health = run.workspace.health()  # drivers that append at the same time leave orphans
    assert not health.missing_shards and not any(health.duplicates.values())


def num_cues(folder: Path, bank: str) -> int:
    run = run_on(folder, bank)
    return len(run.workspace.table("cues").read(["clip_id"]))


def test_two_nodes_of_one_job_build_the_same_bank(folder, alone, submitted):
    job = submitted("slurm", "two")
    assert job.code() == 0, job.log()
    assert job.states() == ["COMPLETED"]
    assert f"fit: {NUM_CLIPS} new" in job.log() and "ray stop" not in job.log()
    assert_same(run_on(folder, "two"), alone)


def test_an_array_of_which_a_task_is_killed_builds_and_renders_the_same_bank(folder, alone, submitted):
    job = submitted("slurm-array", "four")
    wait_until(lambda: num_cues(folder, "four"), job.program)
    kill_task(job.fields("ArrayJobId")[0], "3")
    assert job.code() == 128 + 9
    assert job.states() == ["COMPLETED"] * 3 + ["FAILED"]
    assert_same(run_on(folder, "four"), alone)
    assert num_cues(folder, "four") == NUM_CLIPS
    rendering = submitted("slurm-array", "four", "render jobs.yaml")
    assert rendering.code() == 0, rendering.log()
    assert_same(run_on(folder, "four"), alone, (*BUILT, "renders"))


def kill_task(job: str, task: str) -> None:
    """SIGKILL to all processes of a task of an array but its script: the driver, its Ray, and `srun`."""
    own = {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": task}
    victims = [process for process in psutil.process_iter() if own.items() <= environment_of(process).items()]
    assert victims
    for process in victims:
        if not process.name().startswith("slurm"):
            process.kill()


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_a_job_at_its_time_limit_is_queued_again_and_finishes(folder, alone, submitted):
    job = submitted("slurm", "again", "build", "submit.grace_s=120")
    wait_until(lambda: "list_audio:" in job.log(), job.program)
    set_limit(job, minutes_of(job) + 2)  # less than grace_s is left, which Slurm sees within half a minute
    wait_until(lambda: job.fields("Restarts") == ["1"], job.program)
    set_limit(job, 60)
    assert job.code() == 0, job.log()
    assert (job.states(), job.fields("Restarts")) == (["COMPLETED"], ["1"])
    assert "asked to stop" in job.log() and "finished work is committed" in job.log()
    assert_same(run_on(folder, "again"), alone)


def minutes_of(job: Job) -> int:
    """How long a job has run, in whole minutes."""
    days, hours, minutes, _ = map(int, re.split(r"[-:]", f"0-{job.fields('RunTime')[0]}"))
    return (days * 24 + hours) * 60 + minutes


def set_limit(job: Job, minutes: int) -> None:
    subprocess.run(["scontrol", "update", f"JobId={job.fields('JobId')[0]}", f"TimeLimit={minutes}"], check=True)


def test_a_cancelled_job_does_not_run_again(folder, submitted):
    job = submitted("slurm-array", "cancelled", "build", "submit.tasks=1")
    wait_until(lambda: "list_audio:" in job.log(), job.program)
    job.cancel()
    assert job.code() != 0
    assert (job.states(), job.fields("Restarts")) == (["CANCELLED"], ["0"])
    assert "finished work is committed" in job.log()


@pytest.mark.parametrize(
    "change, reason",
    [
        ("submit.partition=nowhere", "submit: Slurm refuses the job (invalid partition specified: nowhere)"),
        ("submit.memory_gib=9999999", "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses_is_a_sentence(folder, change, reason):
    words = ("submit", "--to", "slurm", "--", *on("refused", "build"), "--set", change)
    assert aai(folder, *words).wait(PATIENCE_S) in (1, 2)  # of the trial, of sbatch itself
    assert reason in (folder / "aai.log").read_text().replace("\n", " ")
    assert not (folder / "refused").exists()
