"""`aai submit` reads the command as `aai` would, and hands one file to the target's program."""

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.app.cli import app
from tests.flows.submit.submissions import ON_BUCKETS


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a configuration on buckets and no program but stand-ins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/programs:/usr/bin:/bin")
    Path("aai.yaml").write_text(yaml.safe_dump(ON_BUCKETS | {"submit": {"nodes": 2}}))
    return tmp_path


def stand_in(name: str, text: str) -> None:
    path = Path("programs", name)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def submit(*words: str):
    return CliRunner().invoke(app, ["submit", *words])


def test_a_dry_run_prints_the_file_and_hands_nothing_in(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || touch handed-in')
    result = submit("--to", "slurm", "--dry-run", "--", "build", "--set", "submit.nodes=3")
    assert result.exit_code == 0
    assert "#SBATCH --nodes=3" in result.output
    assert "nothing was handed in: the same command without --dry-run hands it to `sbatch`" in result.output
    assert not {"handed-in", "submissions"} & set(os.listdir())


def test_the_program_gets_the_file_and_the_user_the_way_to_watch(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || cp "${@: -1}" handed-in; echo "$@" > call')
    result = submit("--to", "slurm-array", "--wait", "--", "render", "jobs.yaml")
    assert result.exit_code == 2
    assert "jobs.yaml: there is no such file: name a job file" in result.output
    Path("jobs.yaml").write_text("- prompt: a photo of *\n")
    result = submit("--to", "slurm-array", "--", "render", "jobs.yaml")
    assert result.exit_code == 0, result.output
    assert not Path("call").read_text().startswith("--wait ")
    assert "aai render jobs.yaml" in Path("handed-in").read_text()
    assert "squeue --me --name=aai-render-" in result.output


def test_waiting_ends_with_the_job(folder):
    stand_in("sbatch", 'echo "$@" > call')
    result = submit("--to", "slurm-array", "--wait", "--", "build")
    assert (result.exit_code, "has finished" in result.output) == (0, True), result.output
    assert Path("call").read_text().startswith("--wait ")


def test_the_exit_code_is_that_of_the_program(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || exit 7')
    stand_in("squeue", 'echo "${@: -1}" > asked; [ -e jobs ] && echo "${@: -1}"; exit 0')
    result = submit("--to", "slurm", "--", "build")
    assert result.exit_code == 7 and "nothing was submitted: sbatch ended with code 7" in result.output
    assert not Path("submissions").exists()
    result = submit("--to", "slurm", "--wait", "--", "build")
    assert result.exit_code == 7 and "nothing was submitted: sbatch ended with code 7" in result.output
    assert Path("asked").read_text().startswith("--name=aai-build-") and not Path("submissions").exists()
    Path("jobs").touch()
    result = submit("--to", "slurm", "--wait", "--", "build")
    assert result.exit_code == 7
    assert "sbatch ended with code 7; the same command does what is left" in result.output
    assert len(list(Path("submissions").iterdir())) == 1


def test_a_program_that_is_killed_may_have_handed_the_job_in(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || kill -9 $$')
    stand_in("squeue", "exit 1")
    result = submit("--to", "slurm", "--", "build")
    assert result.exit_code == 137
    assert "sbatch was ended by signal 9; if it took the job" in result.output and "squeue --me --name" in result.output
    assert len(list(Path("submissions").iterdir())) == 1


def test_who_stops_waiting_is_told_that_the_job_goes_on(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || { sleep 0.5; kill -INT $PPID; exec sleep 60; }')
    result = submit("--to", "slurm", "--wait", "--", "build")
    assert result.exit_code == 130
    assert "stopped; what `sbatch` took goes on without this command: aai-build-" in result.output
    assert "scancel --name=aai-build-" in result.output and "finished work is committed" not in result.output


def test_the_dashes_before_the_command_may_be_left_out(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || cp "${@: -1}" handed-in')
    for words in (("--to", "slurm", "build", "-c", "aai.yaml"), ("build", "-c", "aai.yaml", "--to", "slurm")):
        result = submit(*words)
        assert result.exit_code == 0 and "aai build -c aai.yaml" in Path("handed-in").read_text(), result.output
        Path("handed-in").unlink()
    result = submit("--to", "slurm", "build", "--dry-rum")
    assert result.exit_code == 2 and "No such option: --dry-rum" in result.output


def test_what_is_missing_is_a_sentence_before_anything_starts(folder):
    Path("programs").rmdir()
    os.environ["PATH"] = str(folder)
    result = submit("--to", "slurm", "--", "build")
    assert result.exit_code == 2
    assert "there is no `sbatch` on this machine" in result.output
    assert not Path("submissions").exists()


def test_what_the_target_refuses_is_not_handed_in(folder):
    stand_in("sbatch", "echo 'sbatch: error: invalid partition specified: nowhere' >&2; exit 1")
    result = submit("--to", "slurm", "--", "build")
    assert result.exit_code == 2
    assert "Slurm refuses the job (invalid partition specified: nowhere)" in result.output.replace("\n", " ")
    assert not Path("submissions").exists() and "submit.gpus" not in result.output
    stand_in("sbatch", "echo 'sbatch: error: Invalid generic resource (gres) specification' >&2; exit 1")
    assert "set submit.gpus to 0 if no node has GPUs" in submit("--to", "slurm", "--", "build").output.replace(
        "\n", " "
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (("--to", "slrum", "--", "build"), "choose from slurm, slurm-array, ray, kuberay, skypilot"),
        (("--to", "slurm", "--", "demo"), "'demo' cannot be submitted"),
        (("--to", "slurm", "--", "build", "--colour"), "No such option"),
        (("--to", "slurm", "--", "build", "-c", "gone.yaml"), "gone.yaml: there is no such file"),
        (("--to", "slurm", "--", "build", "--set", "submit.nodez=2"), "submit.nodez"),
    ],
)
def test_a_wrong_command_is_reported_before_it_is_submitted(folder, words, said):
    stand_in("sbatch", "touch handed-in")
    result = submit(*words)
    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")
    assert not Path("handed-in").exists()


def test_a_dry_run_says_what_would_be_refused_and_what_the_file_needs(folder):
    stand_in("kubectl", "echo 'error: context x does not exist' >&2; exit 1")
    result = submit("--to", "kuberay", "--dry-run", "--", "build", "--set", "submit.schedule='1'")
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and "as it is, this would be refused: submit.image: it is missing" in said
    assert "refused: submit.schedule: '1' is no schedule" in said
    assert "refused: --to kuberay: kubectl reaches no cluster (context x does not exist)" in said
    result = submit("--to", "skypilot", "--dry-run", "--", "build")
    assert "it reads files in submissions/aai-build-" in result.output and "there is no `sky`" in result.output


def test_options_of_the_command_go_along_and_those_of_no_use_are_refused(folder):
    given = ("--to", "ray", "--dry-run", "--", "report", "--clips", "5")
    assert " -- aai report -c ./aai.yaml --clips 5" in submit(*given).output
    for words, key in ((("report", "-o", "out.html"), "--output"), (("render", "jobs.yaml", "--dry-run"), "--dry-run")):
        result = submit("--to", "ray", "--", *words)
        assert result.exit_code == 2 and result.output.startswith(f"aai: {key}: ")


def test_a_wrong_job_file_is_refused_before_anything_waits_in_a_queue(folder):
    Path("jobs.yaml").write_text('- {promt: "a *"}')
    result = submit("--to", "slurm", "--dry-run", "--", "render", "jobs.yaml")
    assert result.exit_code == 2 and "promt" in result.output


def test_the_training_of_an_aligner_is_submitted_with_the_nodes_of_its_bank(folder):
    Path("pairs.yaml").write_text("config: aai.yaml\npairs: {folder: pairs}\n")
    result = submit("--to", "slurm", "--dry-run", "--", "align", "train", "pairs.yaml", "--set", "seed=3")
    said = " ".join(result.output.split())
    assert result.exit_code == 2, result.output
    assert "#SBATCH --nodes=2" in result.output and "align train pairs.yaml --set seed=3" in result.output
    assert "output: " in said and "trained is on a disk of this machine" in said
    assert f"pairs.folder: {folder}/pairs does not exist" in said
    for target, words, sentence in (
        ("slurm-array", ("pairs.yaml",), "use --to slurm"),
        ("slurm", (), "name the file that describes the pairs"),
        ("slurm", ("--text-only", "captions.txt"), "it takes seconds: run it here"),
        ("slurm", ("pairs.yaml", "--set", "sed=3"), "sed: there is no such key"),
    ):
        refused = submit("--to", target, "--dry-run", "--", "align", "train", *words)
        assert sentence in " ".join(refused.output.split())


def test_a_line_break_in_a_word_does_not_end_the_comment(folder):
    result = submit("--to", "slurm", "--dry-run", "--", "build", "--set", "seed=1\n\r\x85")
    [title] = [line for line in result.output.splitlines() if line.startswith("# Written by")]
    assert title.endswith(r"seed=1\n\r\x85'`: one Ray cluster over the nodes of one job.")


@pytest.mark.parametrize("schedule", ["1", ",,,", "0 2 * *", "99 2 * * *"])
def test_what_is_no_schedule_is_refused(folder, schedule):
    stand_in("kubectl", "")
    result = submit(
        "--to",
        "kuberay",
        "--dry-run",
        "--",
        "build",
        "--set",
        f"submit.schedule='{schedule}'",
        "--set",
        "submit.image=aai:1",
    )
    assert f"submit.schedule: {schedule!r} is no schedule" in result.output


def test_all_that_is_wrong_is_said_before_anything_is_handed_in(folder):
    stand_in("sbatch", '[ "$1" = --test-only ] || touch handed-in')
    keys = ("--set", "submit.nodes=1", "--set", "audio=sounds", "--set", "images=[pictures, more]")
    result = submit("--to", "slurm", "--", "build", *keys)
    named = [line.split(" does not exist")[0] for line in result.output.splitlines()]
    assert result.exit_code == 2 and not {"handed-in", "submissions"} & set(os.listdir())
    assert named == [f"aai: aai.yaml: {key}: {folder}/{name}" for key, name in (
        ("audio", "sounds"), ("images", "pictures"), ("images", "more")
    )]  # fmt: skip
    result = submit("--to", "slurm", "--", "build", *keys[:4], "--set", f"images={[f'i{n}' for n in range(30)]}")
    assert result.output.splitlines()[-1] == "aai: and 11 faults more"


def test_keys_that_have_no_effect_are_named(folder):
    stand_in("sbatch", "")
    result = submit("--to", "slurm-array", "--", "build", "--set", "submit.image=x")
    note = (
        "submit.image, submit.nodes have no effect with --to slurm-array; its jobs have one node each, and submit.tasks"
    )
    assert note in " ".join(result.output.split()) and result.exit_code == 0
    result = submit("--to", "slurm", "--dry-run", "--", "build", "--set", "submit.tasks=3")
    assert "note: submit.tasks has no effect with --to slurm; only slurm-array has tasks" in result.output
    assert "no effect" not in submit("--to", "slurm", "--", "build", "--set", "submit.partition=ai").output


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("slurm", "pool.num_workers=0"), "pool.num_workers is 0"),
        (("slurm", "pool.num_workers=0", "submit.nodes=1"), None),
        (("slurm-array", "pool.num_workers=0"), None),
        (("kuberay", "pool.num_workers=0", "submit.nodes=1"), "pool.num_workers is 0"),
        (("kuberay", "pool.address=local"), "pool.address is local"),
        (("slurm", "pool.address=auto"), None),
    ],
)
def test_a_pool_that_leaves_nodes_idle_is_named(folder, words, key):
    keys = [word for change in words[1:] for word in ("--set", change)]
    output = submit("--to", words[0], "--dry-run", "--", "build", *keys).output
    assert (f"aai: note: {key}" in output) if key else ("note: pool." not in output)


def test_nobody_waits_for_a_schedule(folder):
    keys = ("--set", "submit.schedule='0 2 * * *'", "--set", "submit.image=aai:1")
    stand_in("kubectl", "")
    result = submit("--to", "kuberay", "--wait", "--", "build", *keys)
    assert result.exit_code == 2 and not Path("submissions").exists()
    assert "a schedule never ends: leave out --wait" in " ".join(result.output.split())
