"""A real Ray cluster whose nodes are network and PID namespaces: for Ray three machines, whose links can be cut.

Each node has an address, processes, a folder of temporary files and shared memory of its own. All of them see the disk.
"""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.cluster import STORE_BYTES, title_of

ROOT = Path(__file__).parents[1]
NUM_NODES = 3  # the first is the head, which has no room for a worker
HEAD = "10.78.0.10"
CPUS = 2  # of a worker: each node but the head has room for one
_START_S = 180  # the machine may be busy
_MACHINE = 'mount --bind "$1" "$2" && mount -t tmpfs -o size=512m tmpfs /dev/shm && shift 2 && exec "$@"'


def why_not() -> str:
    """Why this machine cannot have such a cluster; empty if it can."""
    if not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        return "iproute2 or util-linux is not installed"
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount-proc", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"no namespaces can be made: {tried.stderr.decode().strip()}"


class RayNetwork:
    """A head and two nodes on a bridge; commands can be run on a fourth machine beside them."""

    address = f"http://{HEAD}:8265"

    def __init__(self, folder: Path) -> None:
        self._folder, self._tag = folder, f"aai{os.getpid()}"
        self._nodes: dict[int, subprocess.Popen] = {}
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex())
        self.token.chmod(0o600)
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.environment = os.environ | variables

    def start(self) -> None:
        """Make the network, and start Ray on all nodes."""
        bridge = self._name("b")
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "addr", "add", "10.78.0.1/24", "dev", "br0")
        _ip("-n", bridge, "link", "set", "br0", "up")
        for number in range(NUM_NODES):
            self._link(bridge, self._name(number), number)
        self._run_ray(0, "--head", "--port=6379", "--num-cpus=1", f"--dashboard-host={HEAD}")
        for number in range(1, NUM_NODES):
            self.join(number)

    def _link(self, bridge: str, name: str, number: int) -> None:
        _ip("netns", "add", name)
        _ip("link", "add", f"v{number}", "netns", bridge, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", bridge, "link", "set", f"v{number}", "master", "br0", "up")
        _ip("-n", name, "addr", "add", f"10.78.0.1{number}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", name, "link", "set", link, "up")

    def join(self, number: int) -> None:
        """Start Ray on a node, or start it again once it has ended."""
        self._run_ray(number, f"--address={HEAD}:6379", f"--num-cpus={CPUS}")

    def _run_ray(self, number: int, *options: str) -> None:
        own, temporary = self._folder / f"node{number}-{time.monotonic_ns()}", self._folder / "ray"
        for path in (own, temporary):
            path.mkdir(exist_ok=True)
        ray = ["ray", "start", "--block", f"--node-ip-address=10.78.0.1{number}", f"--temp-dir={temporary}"]
        machine = ["setsid", "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
        command = [*machine, "sh", "-c", _MACHINE, "sh", str(own), str(temporary), *ray]
        log = self._folder / f"{own.name}.log"
        with log.open("wb") as output:
            self._nodes[number] = subprocess.Popen(
                [*self._at(number), *command, f"--object-store-memory={STORE_BYTES}", *options],
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: "Ray runtime started" in log.read_text() or not self.is_up(number), _START_S)
        assert self.is_up(number), log.read_text()

    def is_up(self, number: int) -> bool:
        """Whether `ray start` is running on a node."""
        return self._nodes[number].poll() is None

    def cut(self, number: int) -> None:
        """Cut a node off from the others."""
        _ip("-n", self._name("b"), "link", "set", f"v{number}", "down")

    def mend(self, number: int) -> None:
        """Undo `cut`."""
        _ip("-n", self._name("b"), "link", "set", f"v{number}", "up")

    def processes(self, number: int, title: str) -> list[psutil.Process]:
        """The processes of a node whose title holds a word."""
        network = Path("/run/netns", self._name(number)).stat().st_ino
        return [process for process in psutil.process_iter() if _is_in(process, network) and title in title_of(process)]

    def beside(self, *command: str) -> list[str]:
        """A command as it is run on a machine beside the nodes."""
        return [*self._at("b"), *command]

    def _at(self, name: str | int) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self._name(name)}"]

    def _name(self, name: str | int) -> str:
        return f"{self._tag}{name}"

    def stop(self) -> None:
        """Switch all machines off, and remove the network."""
        for node in self._nodes.values():
            node.kill()
            node.wait()
        for name in (*range(NUM_NODES), "b"):
            subprocess.run(["ip", "netns", "delete", self._name(name)], check=False, capture_output=True)


@contextmanager
def ray_network() -> Iterator[RayNetwork]:
    """The cluster, for the length of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path, because it holds sockets
        network = RayNetwork(Path(folder))
        try:
            network.start()
            yield network
        finally:
            network.stop()


def wait_until(is_so, limit_s: float) -> None:
    """Wait until a condition holds."""
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, "it did not get there"
        time.sleep(0.2)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _is_in(process: psutil.Process, network: int) -> bool:
    try:
        return os.stat(f"/proc/{process.pid}/ns/net").st_ino == network
    except OSError:
        return False
