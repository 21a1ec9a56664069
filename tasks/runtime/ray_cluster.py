"""Connecting to a Ray cluster, or starting one on this machine."""

import json
import logging
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aai.errors import BadConfig, Transient
from tasks.runtime.placement import Node

# Ray reads these when it is imported or started; settings of the user have precedence.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray 2.60 warns without it

import ray  # noqa: E402
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS  # noqa: E402
from ray.autoscaler.v2.utils import is_autoscaler_v2  # noqa: E402
from ray.experimental.internal_kv import _internal_kv_get  # noqa: E402

_ADDRESS = "pool.address"
_LOCAL, _AUTO = "local", "auto"  # start a cluster on this machine; join the one that runs on it

_joined_as: dict[str, str] = {}
"""Addresses under which this process joined a cluster, and the address that the head node reports for itself."""

_PROBE_S = 5.0  # how long a cluster has to answer


def connect(address: str | None) -> None:
    """Join the cluster at an address or RAY_ADDRESS; without either start one on this machine for this process.

    Raises:
        BadConfig: the cluster that was asked for does not answer, or is reached through Ray Client.
        Transient: Ray does not start on this machine.
    """
    address = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    if address.startswith("ray://"):
        raise BadConfig(
            f"{address} is Ray Client, which ends the run when the connection drops for 30 s: "
            "submit the run as a job, so that its driver is inside the cluster",
            key=_ADDRESS,
        )
    if address not in (_LOCAL, _AUTO):
        _probe(address)
    if ray.is_initialized():
        _check_same(address)
        return
    with _keeping_sigterm():
        _init(address)
    _joined_as[address] = _head_address()
    _protect_token()


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def cluster_nodes(to_come: Sequence[Node] = ()) -> list[Node]:
    """The nodes of the cluster, and those that its autoscaler can still start."""
    resources = [node["Resources"] for node in alive_nodes()]
    nodes = [Node(each.get("CPU", 0), each.get("GPU", 0)) for each in resources]
    if not (to_come and autoscales()):
        return nodes
    num_started = sum(node.cpus >= to_come[0].cpus and node.gpus >= to_come[0].gpus for node in nodes)
    return [*nodes, *to_come[num_started:]]


def autoscales() -> bool:
    """Whether an autoscaler can start nodes. Which ones, Ray does not tell.

    Its monitor runs on every cluster; where it can start nothing, it makes up a type for each node from the node's id.
    """
    status = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
    types = status.get("autoscaler_report", {}).get("node_type_mapping") or {}
    return any(kind != f"node_{node}" for node, kind in types.items()) or is_autoscaler_v2(fetch_from_server=True)


def _init(address: str) -> None:
    dashboard, num_cpus = (False, _num_cpus()) if address == _LOCAL else (None, None)
    try:
        ray.init(
            address=address,
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # noqa: BLE001 - Ray raises errors of all kinds, plain Exception among them
        ray.shutdown()
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        if address == _LOCAL:
            raise Transient(
                f"Ray did not start on this machine ({reason}): look at free memory, disk space and /dev/shm, "
                "or run without Ray (pool.num_workers: 0)"
            ) from error
        raise BadConfig(
            f"Ray at {address} refuses the connection ({reason}): it needs the same versions of Python and Ray, "
            "and the token of the cluster (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)",
            key=_ADDRESS,
        ) from error


def _num_cpus() -> int | None:
    """The CPUs that Slurm gave to this process; Ray alone would take all of the machine."""
    allotted = os.environ.get("SLURM_CPUS_PER_TASK")
    return int(allotted) if allotted else None


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM: Ray's exits with code 15, and says nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    is_received = False
    try:
        yield
    except SystemExit:
        is_received = True
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if is_received:
            signal.raise_signal(signal.SIGTERM)


def _probe(address: str) -> None:
    """Fail at once where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadConfig(f"{address!r} is not host:port, {_AUTO} or {_LOCAL}", key=_ADDRESS)
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_S).close()
    except OSError as error:
        raise BadConfig(f"nothing answers at {address}: start Ray there, or leave the key out", key=_ADDRESS) from error


def _check_same(address: str) -> None:
    """Check that the cluster this process joined is the one that is configured."""
    joined = _head_address()
    if address in (_LOCAL, _AUTO) or _joined_as.get(address) == joined:
        return
    if _resolved(address) != _resolved(joined):
        raise BadConfig(f"this process has joined {joined}: use another process for {address}", key=_ADDRESS)


def _head_address() -> str:
    """The address that the cluster's head node reports."""
    return str(ray.get_runtime_context().gcs_address)


def _resolved(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return socket.gethostbyname(host), port


def _protect_token() -> None:
    """Make the token readable to its owner alone; Ray 2.60 lets every user of the machine read it."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
