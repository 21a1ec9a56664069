"""A Prefect server with Postgres, and a worker, as processes on loopback that a test kills and starts again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_UI_ENABLED": "false",
}
ENDS = ("Completed", "Failed", "Crashed", "Cancelled")
PATIENCE_S = 600
"""The machine may be busy."""

_BINARIES = [*map(str, Path("/usr/lib/postgresql").glob("*/bin")), os.environ["PATH"]]
INITDB = shutil.which("initdb", path=os.pathsep.join(_BINARIES))


class Site:
    """What runs: `postgres`, `server` and `worker`."""

    def __init__(self, folder: Path, postgres_port: int) -> None:
        self.folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        database = f"postgresql+asyncpg://prefect@127.0.0.1:{postgres_port}/postgres"
        self.environment = (
            os.environ
            | QUIET
            | {
                "PYTHONPATH": str(ROOT),
                "PREFECT_API_URL": self.url,
                "PREFECT_HOME": str(folder / "prefect"),
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                "OMP_NUM_THREADS": "1",
            }
        )
        self.server = self.worker = None

    def aai(self, *words: str) -> str:
        """Run a command of `aai`; its output."""
        return self._run("-m", "flows.app.cli", *words)

    def prefect(self, *words: str) -> str:
        """Run a command of `prefect`; its output."""
        return self._run("-m", "prefect", "--no-prompt", *words)

    def start_server(self) -> None:
        """Start the server, and wait until it answers."""
        self.server = self._start("server", "server", "start", "--host", "127.0.0.1", "--port", str(self._port))
        wait_for(lambda: self._answers() or self._ended(self.server))
        assert self._answers(), self.log("server")

    def start_worker(self) -> None:
        """Start a worker of the pool."""
        self.worker = self._start("worker", "worker", "start", "--pool", "aai")

    def stop_worker(self) -> None:
        """Ask the worker to end; one of Prefect 3 sometimes waits for ever, which schedulers cut short as well."""
        self.worker.terminate()
        try:
            self.worker.wait(60)
        except subprocess.TimeoutExpired:
            kill(self.worker)

    def log(self, name: str) -> str:
        """What a program has printed."""
        return (self.folder / f"{name}.log").read_text()

    def runs(self) -> list[dict[str, Any]]:
        """All flow runs of the deployment, those that have started first."""
        rows = self.post("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return [row for row in rows if row["deployment_id"]]

    def state(self, run_id: str) -> str:
        """The name of a run's state."""
        return self.run(run_id)["state"]["name"]

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run."""
        return httpx.get(f"{self.url}/flow_runs/{run_id}", timeout=60).raise_for_status().json()

    def end_of(self, run_id: str) -> str:
        """The name of the state in which a run ends."""
        wait_for(lambda: self.state(run_id) in ENDS)
        return self.state(run_id)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer of the server to a POST."""
        answer = httpx.post(self.url + path, json=body or {}, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def request(self) -> str:
        """Ask for a run at once; its id."""
        before = {run["id"] for run in self.runs()}
        self.prefect("deployment", "run", "nightly/nightly")
        found = {run["id"]: run["auto_scheduled"] for run in self.runs()}  # the server adds scheduled ones at any time
        [new] = {key for key, is_scheduled in found.items() if not is_scheduled} - before
        return new

    def processes(self) -> list[psutil.Process]:
        """The processes of flow runs on this site."""
        found = psutil.process_iter(["pid", "cmdline"])
        return [each for each in found if "prefect.engine" in " ".join(each.info["cmdline"] or []) and self._owns(each)]

    def close(self) -> None:
        """End everything but Postgres."""
        for process in (self.worker, self.server):
            if process and process.poll() is None:
                kill(process)
        for process in self.processes():
            process.kill()

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("PREFECT_API_URL") == self.url
        except psutil.Error:
            return False

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=10).is_success
        except httpx.TransportError:
            return False

    def _ended(self, process: subprocess.Popen) -> bool:
        return process.poll() is not None

    def _start(self, name: str, *words: str) -> subprocess.Popen:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "prefect", *words]
            return subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, cwd=self.folder)

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def postgres() -> Iterator[int]:
    """A Postgres with a user `prefect`; its port."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = {"user": "nobody"} if os.geteuid() == 0 else {}  # Postgres refuses root
    if user:
        shutil.chown(folder, **user)
    data, port = str(folder / "data"), free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([INITDB, "-D", data, "-U", "prefect", "-A", "trust", "-N"], check=True, **quiet, **user)
    command = [str(Path(INITDB).resolve().with_name("postgres")), "-D", data, "-p", str(port), "-k", str(folder), "-F"]
    server = subprocess.Popen([*command, "-h", "127.0.0.1"], **quiet, **user)
    try:
        wait_for(lambda: is_open(port))
        yield port
    finally:
        server.send_signal(signal.SIGINT)  # ends its connections
        server.wait(60)
        shutil.rmtree(folder)


def kill(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    """End a process of ours."""
    process.send_signal(number)
    process.wait(PATIENCE_S)


def wait_for(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Wait until something is so; how long it took, in seconds."""
    start_s = time.monotonic()
    while not is_so():
        assert time.monotonic() < start_s + patience_s, "it did not happen"
        time.sleep(0.5)
    return time.monotonic() - start_s


def is_open(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
