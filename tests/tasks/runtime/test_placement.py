"""Where stages run: GPUs, CPUs and workers, by the nodes of a cluster and by the options."""

import pytest

from aai.errors import BadConfig
from tasks.runtime import placement
from tasks.runtime.options import PoolOptions, SubmitOptions
from tasks.runtime.placement import Node, nodes_to_come, place, this_machine

EIGHT = [Node(16, 4), Node(16, 4)]


def placed(nodes, has_model=True, **options):
    found = place(PoolOptions(**options), has_model, nodes)
    return found.num_workers, found.gpus, found.cpus, found.num_nodes


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([Node(16, 1)], (1, 1, 15, 1)),
        (EIGHT, (8, 1, 3, 2)),
        ([Node(8, 0), Node(64, 8)], (8, 1, 7, 1)),  # a head without a GPU
        ([Node(64, 8), Node(8, 2)], (10, 1, 3, 2)),  # the smaller share is everybody's
        ([Node(4, 4)], (4, 1, 0.75, 1)),
        ([Node(1, 1)], (1, 1, 1, 1)),
        ([Node(16)], (15, 0, 1, 1)),
        ([Node(2)], (1, 0, 1, 1)),
        ([Node(1)], (1, 0, 1, 1)),
        ([Node(0), Node(8, 1)], (1, 1, 7, 1)),  # KubeRay's head
    ],
)
def test_a_stage_with_a_model_takes_a_gpu_for_each_worker_and_its_share_of_the_cpus(nodes, expected):
    assert placed(nodes) == expected


def test_a_stage_without_a_model_takes_a_cpu_for_each_worker():
    assert placed(EIGHT, has_model=False) == (31, 0, 1, 2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gpus_per_worker": 0}, (31, 0, 1, 2)),
        ({"gpus_per_worker": 0.5}, (16, 0.5, 1, 2)),
        ({"gpus_per_worker": 2}, (4, 2, 7, 2)),
        ({"cpus_per_worker": 8}, (3, 1, 8, 2)),  # a CPU stays free
        ({"num_workers": 3}, (3, 1, 3, 2)),
        ({"num_workers": 99}, (8, 1, 3, 2)),
    ],
)
def test_options_come_first(options, expected):
    assert placed(EIGHT, **options) == expected


def test_threads_are_whole():
    assert [place(PoolOptions(), True, [node]).num_threads for node in (Node(16, 1), Node(4, 4))] == [15, 1]


@pytest.mark.parametrize(
    ("options", "key", "text"),
    [
        ({"gpus_per_worker": 8}, "pool.gpus_per_worker", "8 GPUs, and no node has more than 4 GPUs"),
        ({"cpus_per_worker": 32}, "pool.cpus_per_worker", "32 CPUs and 1 GPU, which no node has"),
    ],
)
def test_what_no_node_has_is_refused(options, key, text):
    with pytest.raises(BadConfig, match=text) as error:
        placed(EIGHT, **options)
    assert error.value.key == key


def test_more_than_one_gpu_is_a_whole_number():
    with pytest.raises(ValueError, match="1.5 is more than one GPU"):
        PoolOptions(gpus_per_worker=1.5)


def test_only_a_section_that_names_nodes_says_what_may_come():
    assert nodes_to_come(SubmitOptions()) == nodes_to_come(SubmitOptions(hours=2)) == []
    assert nodes_to_come(SubmitOptions(nodes=2, gpus=4)) == [Node(8, 4)] * 2


@pytest.mark.parametrize(("visible", "gpus"), [(None, 4), ("", 0), ("-1", 0), ("2", 1), ("0,3", 2)])
def test_this_machine_has_the_gpus_that_are_visible(monkeypatch, visible, gpus):
    monkeypatch.setattr(placement, "_num_gpus", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == gpus


def test_a_placement_is_a_phrase():
    assert str(place(PoolOptions(), True, EIGHT)) == "up to 8 workers of 1 GPU and 3 CPUs on 2 nodes"
    assert str(place(PoolOptions(), False, [Node(2)])) == "up to 1 worker of 1 CPU on 1 node"
