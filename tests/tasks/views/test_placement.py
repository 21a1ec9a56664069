"""Where stages would work, as `aai plan` and `aai doctor` say it."""

import pytest

from aai.errors import BadConfig
from flows.app.doctor import examine
from tasks.runtime import estimates
from tasks.runtime.placement import Node
from tasks.views.placement import placements
from tasks.views.plan import plan
from tests.collection import run_on

RAY = {"num_workers": None}


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(estimates, "this_machine", lambda: Node(16, 2))


def test_stages_with_a_model_are_on_gpus_and_others_on_cpus(collection, two_gpus):
    on_cpus, on_gpus = placements(run_on(collection, pool=RAY))
    assert on_cpus.endswith("ingest_images, ingest_audio, retrieve: up to 15 workers of 1 CPU on 1 node")
    assert on_gpus == (
        "embed_images, embed_audio, align, fit, render, score, measure: up to 2 workers of 1 GPU and 7 CPUs on 1 node"
    )


def test_pools_are_seen(collection, two_gpus):
    found = placements(run_on(collection, pool=RAY, pools={"fit": {"gpus_per_worker": 2}}), "build")
    assert found[-1] == "fit: up to 1 worker of 2 GPUs and 15 CPUs on 1 node"


def test_without_ray_stages_are_in_this_process(collection, two_gpus):
    in_process, on_gpu = placements(run_on(collection, pool={"num_workers": 0}))
    assert in_process.endswith("retrieve: in this process") and on_gpu.endswith("in this process, on its first GPU")


def test_a_plan_tells_and_needs_no_room(collection, two_gpus):
    assert len(plan(run_on(collection, pool=RAY)).placement) == 2
    [sentence] = plan(run_on(collection, pool=RAY | {"gpus_per_worker": 4})).placement
    assert sentence.startswith("where stages would work is not known: pool.gpus_per_worker: each worker asks for")


def test_the_doctor_finds_that_there_is_no_room(collection, two_gpus):
    wrong = [finding for finding in examine(run_on(collection, pool=RAY | {"gpus_per_worker": 4})) if finding.is_wrong]
    assert [finding.text for finding in wrong] == ["stages have no place to work"]
    with pytest.raises(BadConfig):
        placements(run_on(collection, pool=RAY | {"gpus_per_worker": 4}))
