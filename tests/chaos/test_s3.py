"""Each request of a build in a bucket fails once, in each of several ways: nothing is lost, and nothing is there twice.

A case is a stage, whether the request writes, its number in the stage, and a fault. A run either gets over the fault or
ends with `Transient`, and the same command again finishes the stage. One build takes several cases: one or a few in
each stage. By default AAI_CHAOS_CASES (40) cases are tried, drawn by AAI_CHAOS_SEED; AAI_CHAOS_CASES=writes or
AAI_CHAOS_CASES=all tries every case of the writing requests, or of all.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import boto3
import pytest

from aai.errors import BadConfig, Transient
from aai.workspace import Workspace
from tasks.render import render
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run
from tests.bank import jobs_of
from tests.chaos.faulty_s3 import FaultyServer, Place, faulty_s3
from tests.chaos.seeds import say, seed_of_this_run
from tests.disturbed import contents, keep_models, write_files
from tests.workspace.rows import OLD, rows_of

BUCKET = "bank"
JOB = {"prompt": "a photo of *", "steps": 2}
MAX_UNSEEN = 3
GAPS = {False: 6, True: 2}
"""By whether requests write: the least distance of two that fail in the same stage of a build."""


@dataclass(frozen=True, order=True)
class Case:
    stage: str
    is_write: bool
    number: int
    fault: str


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[FaultyServer]:
    folder = write_files(tmp_path_factory.mktemp("collection"))
    with faulty_s3(BUCKET) as server, pytest.MonkeyPatch.context() as patch:
        keep_models(patch)
        client = boto3.client("s3")
        for path in folder.rglob("*.*"):
            client.upload_file(str(path), BUCKET, path.relative_to(folder).as_posix())
        yield server


def run_on(bank: str) -> Run:
    keys = {
        "audio": f"s3://{BUCKET}/sounds", "images": f"s3://{BUCKET}/images", "workspace": f"s3://{BUCKET}/{bank}",
        "retrieve": {"num_neighbours": 2}, "fit": {"method": "mapper"}, "render": {"guidance": 1},
        "confidence": {"method": "none"},
        "run": {"max_reject_fraction": 1}, "pool": {"num_workers": 0, "backoff_s": 0.01},
    }  # fmt: skip
    return open_run(make_config(**keys))


def stages_of(run: Run) -> list[str]:
    return [stage.name for stage in run.stages if stage.command == "build"] + ["render"]


def do(run: Run, stage: str) -> None:
    if stage == "render":
        render(run, jobs_of(run, JOB))
    else:
        run.do(next(each for each in run.stages if each.name == stage))


def all_cases(server: FaultyServer) -> tuple[list[Case], dict[str, list[str]]]:
    """The cases of an undisturbed build, and what it leaves."""
    run, cases = run_on("undisturbed"), []
    for stage in stages_of(run):
        server.arm({})
        do(run, stage)
        for is_write, num in server.num.items():
            faults = server.FAULTS if is_write else server.FAULTS_OF_READS
            cases += [Case(stage, is_write, 1 + number, fault) for number in range(num) for fault in faults]
    server.arm({})
    return cases, contents(run)


def chosen(cases: list[Case], random: Random) -> list[Case]:
    wanted = os.environ.get("AAI_CHAOS_CASES", "40")
    if wanted in ("all", "writes", "reads"):
        return [case for case in cases if wanted == "all" or case.is_write == (wanted == "writes")]
    # Half of them write, because what is written counts, and nine of ten requests read.
    writes, reads = ([case for case in cases if case.is_write is is_write] for is_write in (True, False))
    half = min(int(wanted) // 2, len(writes))
    return random.sample(writes, half) + random.sample(reads, min(int(wanted) - half, len(reads)))


def next_of(left: list[Case]) -> list[Case]:
    """Cases of one stage for the next build, with gaps between them."""
    some: list[Case] = []
    for case in left:
        alike = (each for each in some if each.is_write == case.is_write)
        if all(abs(case.number - each.number) >= GAPS[case.is_write] for each in alike):
            some.append(case)
    return some


class Findings:
    """What became of the cases."""

    def __init__(self) -> None:
        self.num = Counter[str]()
        """By kind of request and fault: how many have failed."""
        self.ended = Counter[str]()
        """The sentences of the runs that ended."""
        self.requests = Counter[str]()
        """The requests that have failed, without their numbers."""
        self.unseen = Counter[Case]()
        """How often a stage ended well without reaching a case: a build makes a few requests more or less."""

    def take(self, cases: dict[Place, Case], failed: dict[Place, str], error: Transient | None) -> list[Case]:
        """Take in a stage; the cases that failed."""
        if error:
            self.ended[re.sub(r"bank-\d+|recipe=\w+|[0-9a-f]{8,}[0-9a-f-]*", "…", str(error))] += 1
        else:
            self.unseen.update(case for place, case in cases.items() if place not in failed)
        for place, request in failed.items():
            self.num[f"{'write' if place[0] else 'read'} {cases[place].fault}"] += 1
            self.requests[re.sub(r"bank-\d+|recipe(=|%3D)\w+|[0-9a-f]{8,}[0-9a-f-]*", "…", request)] += 1
        return [cases[place] for place in failed]


def disturbed(server: FaultyServer, bank: str, plan: dict[str, list[Case]], findings: Findings) -> list[Case]:
    """A build in which the cases of a plan fail; those that did."""
    run, failed = run_on(bank), []
    for stage in stages_of(run):
        cases = {(case.is_write, case.number): case for case in plan.get(stage, [])}
        server.arm({place: case.fault for place, case in cases.items()})
        ended = None
        try:
            do(run, stage)
        except Transient as error:
            ended = error
        except Exception as error:
            raise AssertionError(f"{[cases[place] for place in server.failed]} at {server.failed}") from error
        failed += findings.take(cases, server.failed, ended)
        if ended:
            server.arm({})
            run = run_on(bank)
            do(run, stage)
    server.arm({})
    return failed


@pytest.mark.chaos
def test_a_request_that_fails_loses_and_doubles_nothing(server):
    random = seed_of_this_run()
    cases, expected = all_cases(server)
    left, findings = chosen(cases, random), Findings()
    random.shuffle(left)
    while left:
        bank = f"bank-{len(left)}"
        by_stage = {stage: [case for case in left if case.stage == stage] for stage in {case.stage for case in left}}
        plan = {stage: next_of(of_stage) for stage, of_stage in by_stage.items()}
        failed = set(disturbed(server, bank, plan, findings))
        run = run_on(bank)
        health = run.workspace.health()
        assert contents(run) == expected, failed
        assert (health.missing_shards, health.duplicates) == ([], {}), failed
        boto3.resource("s3").Bucket(BUCKET).objects.filter(Prefix=f"{bank}/").delete()
        left = [case for case in left if case not in failed and findings.unseen[case] < MAX_UNSEEN]
        say(f"{len(failed)} failed; left: {Counter(case.is_write for case in left)}; {findings.num.total()} in all")
    say(findings.num, findings.ended, findings.requests)
    assert findings.num.total() > 0


@pytest.mark.chaos
def test_a_store_on_which_commits_would_overwrite_each_other_is_refused(server, monkeypatch):
    monkeypatch.setattr(server, "is_conditional", False)
    with pytest.raises(BadConfig, match="ignores `If-None-Match") as error:
        Workspace(f"s3://{BUCKET}/refused").table("clips").append(OLD, rows_of("clips", ["a"]))
    assert (error.value.key, error.value.uri) == ("workspace", f"s3://{BUCKET}/refused")
    assert list(boto3.resource("s3").Bucket(BUCKET).objects.filter(Prefix="refused/")) == []
