"""A process joins the cluster that is configured, or fails with the key."""

import socket
import subprocess
import sys

import pytest

from aai.errors import BadConfig
from tasks.runtime.ray_cluster import connect


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
