"""A real Ray cluster on loopback, of separate processes: a head, and nodes that join it."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
CPUS = 2  # of a worker: each node has room for one, and the pool leaves one more CPU free
STORE_BYTES = 100_000_000  # Ray's minimum is 75 MB
_START_S = 120  # the machine may be busy
IDLE_WORKER = "ray::_RayWorkerRunner"
"""Process title of a pool's actor that has loaded and waits; while it works, the name of the method follows."""


class Node:
    """`ray start --block` and its child processes."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.log = folder / f"node-{time.monotonic_ns()}.log"
        command = [RAY, "start", "--block", "--object-store-memory", str(STORE_BYTES), *options]
        with self.log.open("wb") as log:
            self.starter = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        end_s = time.monotonic() + _START_S
        while "Ray runtime started" not in self.log.read_text():
            assert self.starter.poll() is None and time.monotonic() < end_s, self.log.read_text()
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """All of its processes."""
        root = psutil.Process(self.starter.pid)
        return [root, *root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The processes of its actors."""
        return [process for process in self.processes() if title_of(process).startswith(IDLE_WORKER)]

    def raylet(self) -> psutil.Process:
        """The process that starts its workers and answers for it."""
        return next(process for process in self.processes() if title_of(process).endswith("/raylet"))

    def kill(self) -> None:
        """Switch the machine off: SIGKILL to all of its processes at once."""
        processes = self.processes() if self.starter.poll() is None else []
        for process in processes:
            process.kill()
        self.starter.wait()
        psutil.wait_procs(processes)


class TwoNodes:
    """A head and a second node, which is started again after a test killed it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes: list[Node] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        (folder / "token").write_text(secrets.token_hex())
        (folder / "token").chmod(0o600)
        variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.environment = os.environ | variables
        options = (f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")
        self.nodes.append(Node(folder, self.environment, "--head", f"--num-cpus={CPUS + 1}", *options))

    @property
    def second(self) -> Node:
        """The node that may be killed."""
        return self.nodes[-1]

    def workers(self) -> list[psutil.Process]:
        """The processes of all actors."""
        return [process for node in self.nodes for process in node.workers()]

    def _join(self) -> Node:
        return Node(self._folder, self.environment, f"--address={self.address}", f"--num-cpus={CPUS}")

    def whole(self) -> "TwoNodes":
        """Start the second node again if it was killed."""
        self.nodes = [node for node in self.nodes if node.starter.poll() is None]
        if len(self.nodes) < 2:
            self.nodes.append(self._join())
        return self

    def kill(self) -> None:
        """Kill both nodes."""
        for node in reversed(self.nodes):
            if node.starter.poll() is None:
                node.kill()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """The cluster, for the length of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path, because it holds sockets
        cluster = TwoNodes(Path(folder))
        try:
            yield cluster.whole()
        finally:
            cluster.kill()


def title_of(process: psutil.Process) -> str:
    """The first word of the command line, which Ray sets; empty for a process that has ended."""
    try:
        return process.cmdline()[0]
    except (psutil.NoSuchProcess, IndexError):
        return ""
