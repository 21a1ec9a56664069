"""Slurm's scripts ask for what is configured, pass signals on, and are queued again after a stop."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aai.errors import BadConfig
from flows.submit.slurm import SLURM, SLURM_ARRAY
from tests.flows.submit.submissions import check, submission


class Trial:
    """A stand-in for sbatch, which keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        self._program, self._trial = folder / "bin" / "sbatch", folder / "trial"
        self._answer()

    def refuse(self, reason: str) -> None:
        """Refuse all jobs from now on."""
        self._answer(f"echo '{reason}' >&2; exit 1")

    def _answer(self, last: str = "") -> None:
        stand_in(self._program, f"{{ echo $*; cat; }} > {self._trial}\n{last}")


@pytest.fixture
def sbatch(tmp_path, monkeypatch) -> Trial:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return Trial(tmp_path)


def directives(text: str) -> dict[str, str]:
    """The options in the lines for sbatch; one without a value is empty."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_script_asks_for_what_is_configured(tmp_path):
    options = {
        "nodes": 4,
        "cpus": 16,
        "gpus": 2,
        "accelerator": "h100",
        "memory_gib": 100,
        "hours": 1.5,
        "partition": "ai",
    }
    asked = directives(SLURM.render(submission(tmp_path, submit=options)))
    assert asked["nodes"] == "4"
    assert asked["cpus-per-task"] == "16"
    assert asked["gres"] == "gpu:h100:2"
    assert asked["mem"] == "100G"
    assert asked["time"] == "90"
    assert asked["partition"] == "ai"
    assert asked["signal"] == "B:TERM@120"
    assert "account" not in asked
    assert {"requeue", "exclusive"} <= asked.keys()


def test_an_array_has_a_task_for_each_share(tmp_path):
    asked = directives(SLURM_ARRAY.render(submission(tmp_path, submit={"tasks": 4, "gpus": 0})))
    assert (asked["array"], asked["nodes"]) == ("0-3", "1")
    assert not {"gres", "exclusive"} & asked.keys()


@pytest.mark.parametrize("target", [SLURM, SLURM_ARRAY])
def test_the_script_is_valid_bash_whatever_the_words(target, tmp_path):
    words = ("build", "--set", "fit.prompt='a \"b\" $(id) `id` \\'")
    text = target.render(submission(tmp_path, words, submit={"env": {"NOTE": "it's $HOME; `id`"}}))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_one_node_may_use_its_own_disk_and_several_may_not(tmp_path, sbatch, monkeypatch):
    monkeypatch.setattr("flows.submit.places.file_system_of", lambda location: "ext4")
    check(SLURM, submission(tmp_path, workspace=str(tmp_path)))
    for target, options in ((SLURM, {"nodes": 2}), (SLURM_ARRAY, {})):
        with pytest.raises(BadConfig) as error:
            check(target, submission(tmp_path, workspace=str(tmp_path), submit=options))
        assert error.value.key == "workspace"


def test_a_secret_must_be_set_in_the_shell(tmp_path, sbatch, monkeypatch):
    made = submission(tmp_path, submit={"secrets": ["MY_TOKEN"]})
    with pytest.raises(BadConfig, match="MY_TOKEN is not set") as error:
        check(SLURM, made)
    assert error.value.key == "submit.secrets"
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    check(SLURM, made)
    assert "hunter2" not in SLURM.render(made)


@pytest.mark.parametrize("target", [SLURM, SLURM_ARRAY])
def test_what_slurm_refuses_is_refused_with_its_reason(target, tmp_path, sbatch):
    made = submission(tmp_path, submit={"partition": "nowhere"})
    check(target, made)
    assert (tmp_path / "trial").read_text() == f"--test-only\n{target.render(made)}"
    sbatch.refuse("allocation failure: Requested node configuration is not available")  # nodes are down for now
    check(target, made)
    sbatch.refuse("sbatch: error: invalid partition specified: nowhere\nallocation failure: Invalid partition name")
    with pytest.raises(BadConfig) as error:
        check(target, made)
    assert error.value.key == "submit"
    assert "(invalid partition specified: nowhere)" in error.value.sentence


def test_a_time_limit_within_which_nothing_can_be_done_is_refused(tmp_path, sbatch):
    check(SLURM, submission(tmp_path, submit={"hours": 4 / 60, "grace_s": 120}))
    with pytest.raises(BadConfig, match="more than 180 s") as error:
        check(SLURM, submission(tmp_path, submit={"hours": 3 / 60, "grace_s": 120}))
    assert error.value.key == "submit.hours"


def test_several_nodes_need_time_to_end_ray(tmp_path, sbatch):
    check(SLURM, submission(tmp_path, submit={"nodes": 1, "grace_s": 69}))
    check(SLURM, submission(tmp_path, submit={"nodes": 2, "grace_s": 70}))
    with pytest.raises(BadConfig, match="need 70 s to end Ray") as error:
        check(SLURM, submission(tmp_path, submit={"nodes": 2, "grace_s": 69}))
    assert error.value.key == "submit.grace_s"


# The scripts at work, with stand-ins for Slurm's programs and for `aai`


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    stand_in(folder / "srun", 'while [[ "$1" == --* ]]; do shift; done; exec "$@"')
    stand_in(folder / "scontrol", f'echo "$@" >> {tmp_path}/scontrol.log')
    stand_in(folder / "squeue", "echo RUNNING")
    stand_in(folder / "sleep", "exit 0")
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "submissions").mkdir()
    return folder


def stand_in(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


WAITS = "trap 'exit 143' TERM; touch {folder}/ready; while :; do read -t 0.05 < /dev/zero; done"


def started(tmp_path: Path) -> subprocess.Popen:
    script = tmp_path / "job.sh"
    script.write_text(SLURM_ARRAY.render(submission(tmp_path)))
    job = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}
    return subprocess.Popen(["bash", str(script)], env=os.environ | job)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_that_of_the_command(programs, tmp_path, code):
    stand_in(programs / "aai", f"exit {code}")
    assert started(tmp_path).wait(10) == code
    assert not (tmp_path / "scontrol.log").exists()


def stop_once_ready(job: subprocess.Popen, tmp_path: Path, code: int = 143) -> str:
    """Stop a job whose command has begun; returns what was asked of scontrol."""
    while not (tmp_path / "ready").exists():
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(10) == code
    assert [path for path in (tmp_path / "submissions").iterdir() if ".pid" in path.name] == []
    log = tmp_path / "scontrol.log"
    return log.read_text() if log.exists() else ""


def test_a_stop_reaches_the_command_and_the_job_is_queued_again(programs, tmp_path):
    stand_in(programs / "aai", WAITS.format(folder=tmp_path))
    assert stop_once_ready(started(tmp_path), tmp_path) == "requeue 7_2\n"


def test_a_command_that_dies_of_the_stop_is_queued_again(programs, tmp_path):
    """As it does while it imports; `ray symmetric-run` turns that into another code."""
    stand_in(programs / "aai", WAITS.format(folder=tmp_path).replace("143", "241"))
    assert stop_once_ready(started(tmp_path), tmp_path, 241) == "requeue 7_2\n"


def test_a_job_that_scancel_stops_is_not_queued_again(programs, tmp_path):
    stand_in(programs / "squeue", "echo COMPLETING")
    stand_in(programs / "aai", WAITS.format(folder=tmp_path))
    assert stop_once_ready(started(tmp_path), tmp_path) == ""


def test_a_stop_before_the_command_has_begun_is_not_lost(programs, tmp_path):
    wait = f"touch {tmp_path}/ready; until [ -e {tmp_path}/submissions/*.stop ]; do read -t 0.05 < /dev/zero; done"
    stand_in(programs / "srun", f'{wait}; while [[ "$1" == --* ]]; do shift; done; exec "$@"')
    stand_in(programs / "aai", f"touch {tmp_path}/begun")
    assert stop_once_ready(started(tmp_path), tmp_path) == "requeue 7_2\n"
    assert not (tmp_path / "begun").exists()


def test_a_job_whose_command_never_began_has_failed(programs, tmp_path):
    """`ray symmetric-run` ends with 0 if Ray does not start."""
    stand_in(programs / "srun", "exit 0")
    assert started(tmp_path).wait(10) == 1


def test_a_folder_with_odd_characters_stays_what_it_is(tmp_path, monkeypatch):
    (folder := tmp_path / "sp ace #x %j q'u\"o\\b").mkdir()
    monkeypatch.chdir(folder)
    text = SLURM.render(submission(tmp_path))
    escaped = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    assert f'#SBATCH --chdir="{escaped}"\n' in text
    assert f'#SBATCH --output="{escaped.replace("%j", "%%j")}/submissions/' in text and '-%j.log"\n' in text


def test_a_folder_with_a_line_break_is_refused(sbatch, tmp_path, monkeypatch):
    (folder := tmp_path / "a\nb").mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(BadConfig, match="no folder with a line break"):
        check(SLURM, submission(tmp_path))


@pytest.mark.parametrize("setup", ["echo 'open", "cat <<E\nx\n", "if true"])
def test_commands_with_an_open_end_are_refused(sbatch, tmp_path, setup):
    with pytest.raises(BadConfig, match="Bash does not take these commands") as error:
        check(SLURM, submission(tmp_path, submit={"setup": setup}))
    assert error.value.key == "submit.setup"


@pytest.mark.parametrize(
    "said, sentence",
    [
        ("sbatch: fatal: Unmatched quote", "Slurm refuses the job .Unmatched quote"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", "controller does not answer"),
    ],
)
def test_what_sbatch_calls_fatal_is_a_refusal(sbatch, tmp_path, said, sentence):
    sbatch.refuse(said)
    with pytest.raises(BadConfig, match=sentence):
        check(SLURM, submission(tmp_path))


def test_submissions_of_one_second_have_names_of_their_own(tmp_path):
    names = {submission(tmp_path).name for _ in range(20)}
    assert len(names) == 20
