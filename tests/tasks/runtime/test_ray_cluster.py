"""A process joins the cluster that is configured, or fails with the key."""

import json
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from aai.errors import BadConfig, Transient
from tasks.runtime import ray_cluster
from tasks.runtime.placement import Node
from tasks.runtime.ray_cluster import autoscales, cluster_nodes, connect


def test_ray_client_is_refused():
    with pytest.raises(BadConfig, match="ray://head:10001 is Ray Client, which ends the run") as error:
        connect("ray://head:10001")
    assert error.value.key == "pool.address"


def test_an_address_that_does_not_answer_is_no_local_cluster():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import ray\nfrom aai.errors import BadConfig\nfrom tasks.runtime.ray_cluster import connect\n"
        "ray.init = lambda **options: print('Ray was asked, which tries for minutes')\n"
        f"try:\n  connect('127.0.0.1:{port}')\nexcept BadConfig as error:\n  print(error.key, error.sentence)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"pool.address nothing answers at 127.0.0.1:{port}")


def test_a_process_stays_with_the_cluster_it_has_joined(cluster):
    connect(cluster.address)
    connect(None)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(BadConfig, match="this process has joined") as error,
    ):
        connect(f"127.0.0.1:{other.getsockname()[1]}")
    assert error.value.key == "pool.address"


def test_an_address_without_a_port_is_refused():
    with pytest.raises(BadConfig, match="'head' is not host:port") as error:
        connect("head")
    assert error.value.key == "pool.address"


def stand_in(monkeypatch, init) -> None:
    """Something in place of Ray, whose start is `init`."""
    context = SimpleNamespace(gcs_address="127.0.0.1:6379")
    ray = SimpleNamespace(
        init=init, is_initialized=lambda: False, shutdown=lambda: None, get_runtime_context=lambda: context
    )
    monkeypatch.setattr("tasks.runtime.ray_cluster.ray", ray)
    monkeypatch.setattr("tasks.runtime.ray_cluster._joined_as", {})


@pytest.mark.parametrize(
    "error",
    [
        Exception("The current node timed out\nlogs: ..."),
        OSError(28, "No space left"),
        ValueError("/dev/shm: too small"),
    ],
)
def test_ray_that_does_not_start_here_may_start_later(monkeypatch, error):
    def init(**options):
        raise error

    stand_in(monkeypatch, init)
    with pytest.raises(Transient, match="Ray did not start on this machine") as caught:
        connect("local")
    assert str(error).split("\n")[0] in caught.value.sentence and "logs" not in caught.value.sentence
    assert "pool.num_workers: 0" in caught.value.sentence


@pytest.mark.parametrize(("allotted", "num_cpus"), [("8", 8), (None, None)])
def test_ray_takes_the_cpus_that_slurm_gave_to_this_process(monkeypatch, allotted, num_cpus):
    started = []
    stand_in(monkeypatch, lambda **options: started.append(options["num_cpus"]))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if allotted:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", allotted)
    connect("local")
    assert started == [num_cpus]


@pytest.mark.parametrize("sentence", ["Version mismatch: 2.59", "AuthenticationError: the token is wrong"])
def test_a_cluster_that_refuses_this_process_is_named_with_what_to_look_at(monkeypatch, sentence):
    def init(**options):
        raise RuntimeError(sentence)

    stand_in(monkeypatch, init)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(BadConfig, match=sentence) as caught:
        connect(f"127.0.0.1:{server.getsockname()[1]}")
    assert caught.value.key == "pool.address" and "same versions" in caught.value.sentence


def test_ray_leaves_the_handler_of_sigterm_and_a_signal_while_it_starts_reaches_that(monkeypatch):
    received = []

    def init(**options):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))

    def ended(**options):
        init()
        signal.raise_signal(signal.SIGTERM)

    def own(number, frame):
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, own)
    try:
        stand_in(monkeypatch, init)
        connect("local")
        assert signal.getsignal(signal.SIGTERM) is own and received == []
        stand_in(monkeypatch, ended)
        with pytest.raises(KeyboardInterrupt):
            connect("local")
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("types", "v2", "expected"),
    [
        ({}, False, False),
        ({"ab01": "node_ab01"}, False, False),  # of a cluster that cannot grow, as Ray 2.60 reports it
        ({"10.0.0.1": "ray.head.default"}, False, True),
        ({}, True, True),
    ],
)
def test_an_autoscaler_is_told_by_its_types_of_nodes(monkeypatch, types, v2, expected):
    status = json.dumps({"autoscaler_report": {"node_type_mapping": types}}) if types else None
    monkeypatch.setattr(ray_cluster, "_internal_kv_get", lambda key: status)
    monkeypatch.setattr(ray_cluster, "is_autoscaler_v2", lambda fetch_from_server: v2)
    assert autoscales() is expected


@pytest.mark.parametrize(
    ("started", "grows", "expected"),
    [
        (0, True, [Node(0), Node(8, 1), Node(8, 1)]),
        (1, True, [Node(0), Node(8, 1), Node(8, 1)]),
        (3, True, [Node(0), Node(8, 1), Node(8, 1), Node(8, 1)]),
        (0, False, [Node(0)]),
    ],
)
def test_nodes_that_an_autoscaler_can_still_start_count(monkeypatch, started, grows, expected):
    resources = [{}, *[{"CPU": 8.0, "GPU": 1.0}] * started]
    monkeypatch.setattr(ray_cluster, "alive_nodes", lambda: [{"Resources": each} for each in resources])
    monkeypatch.setattr(ray_cluster, "autoscales", lambda: grows)
    assert cluster_nodes([Node(8, 1)] * 2) == expected
