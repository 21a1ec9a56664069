"""Drivers are killed, run out of disk and memory, and meet others; resumed, they leave what an undisturbed one does.

Each process is forked from one that has loaded everything. What holds after every end:
rows that were acknowledged are there. At the end of all: each key is once per recipe, rows are those of an undisturbed
run, and pictures whose bytes match their checksums. AAI_CHAOS_KILLS sets the number of kills (60 by default),
AAI_CHAOS_SEED runs a seed again.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import pytest

from aai.workspace import Workspace
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run
from tests.chaos.driven import ENDED, POINTS, Fault, append, drive, start
from tests.chaos.seeds import say, seed_of_this_run
from tests.disturbed import contents, unexplained, write_files
from tests.workspace.rows import OLD

NUM_KILLS = int(os.environ.get("AAI_CHAOS_KILLS", "60"))
MAX_STARTS = 400
PATIENCE_S = 600
UNHARMED = Fault()
KILL, TERM = signal.SIGKILL, signal.SIGTERM
FULL = "no space left on the disk: make room"
LOGS = ("audio_listing", "image_listing", "rejects")
"""Tables of which the latest row of an item counts."""
STEP_KIB = 96
"""What a full disk grows by until the next run."""


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path | None:
    """A library that makes writes fail; it must be there when the first driver starts."""
    if not shutil.which("cc"):
        return None
    library = tmp_path_factory.mktemp("shim") / "failing.so"
    source = Path(__file__).with_name("failing_writes.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Drivers:
    """Starts drivers, and knows what an undisturbed one leaves."""

    def __init__(self, folder: Path, shim: Path | None) -> None:
        self.folder, self.shim = folder, shim
        begun_s = time.monotonic()
        self.start(folder / "undisturbed").join()
        self.took_s = time.monotonic() - begun_s
        begun_s = time.monotonic()
        self.start(folder / "undisturbed").join()
        self.idle_s = time.monotonic() - begun_s
        self.expected = contents(self.run(folder / "undisturbed"))
        assert self.expected["renders"]

    def keys(self, bank: Path) -> dict:
        return {
            "audio": str(self.folder / "sounds"), "images": str(self.folder / "images"), "workspace": str(bank),
            "retrieve": {"num_neighbours": 2}, "fit": {"method": "mapper"}, "render": {"guidance": 1},
            "confidence": {"method": "none"},
            "train_mapper": {"method": "learned", "steps": 1, "batch_size": 2},  # an artifact, besides the index
            "run": {"commit_slices": 1, "max_reject_fraction": 1}, "pool": {"num_workers": 0, "slice_size": 1},
        }  # fmt: skip

    def run(self, bank: Path) -> Run:
        return open_run(make_config(**self.keys(bank)))

    def start(self, bank: Path, fault: Fault = UNHARMED) -> ForkServerProcess:
        return start(drive, self.keys(bank), journal_of(bank), fault, shim=self.shim)

    def check(self, bank: Path, are_several: bool = False) -> None:
        """All invariants, at the end of all drivers; several at a time may each note the same in a log."""
        self.check_acknowledged(bank)
        run = self.run(bank)
        found = contents(run)  # opens every picture, against its checksum
        if are_several:
            found |= {name: sorted(set(found[name])) for name in LOGS}
        differing = [name for name in self.expected if found[name] != self.expected[name]]
        assert differing == []
        assert unexplained(run) == set()

    def check_acknowledged(self, bank: Path) -> None:
        """Rows that were acknowledged are there."""
        workspace = Workspace(bank)
        stored: dict[tuple[str, str], set[tuple]] = {}
        for name, recipe, keys in acknowledged(bank):
            if (name, recipe) not in stored:
                table = workspace.table(name)
                rows = table.read(list(table.schema.key), recipe).to_pylist()
                stored[name, recipe] = {tuple(row.values()) for row in rows}
            assert set(map(tuple, keys)) <= stored[name, recipe], f"{name} lost rows that were acknowledged"


def journal_of(bank: Path) -> Path:
    return bank.with_suffix(".journal")


def acknowledged(bank: Path) -> Iterator[list]:
    journal = journal_of(bank)
    lines = journal.read_text().splitlines() if journal.exists() else []
    yield from (json.loads(line) for line in lines if line.startswith("["))


def sentence_of(bank: Path) -> str:
    return re.sub(r"/\S*", "…", journal_of(bank).read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def drivers(tmp_path_factory, shim) -> Drivers:
    return Drivers(write_files(tmp_path_factory.mktemp("collection")), shim)


def end_of(driver: ForkServerProcess, bank: Path, *allowed: int) -> int:
    """The exit code of a driver, one of those that a fault may lead to, or 0."""
    driver.join(PATIENCE_S)
    log = journal_of(bank).with_suffix(".log")
    assert driver.exitcode in (0, *allowed), log.read_text()[-3000:] if log.exists() else driver.exitcode
    return driver.exitcode


def resume(drivers: Drivers, bank: Path, next_fault: Callable[[], Fault], *allowed: int) -> Counter[str]:
    """Start drivers, each with a fault, until one gets through unharmed; how they ended."""
    ends = Counter[str]()
    for _ in range(MAX_STARTS):
        code = end_of(drivers.start(bank, next_fault()), bank, *allowed)
        drivers.check_acknowledged(bank)
        if code == 0:
            drivers.check(bank)
            return ends
        ends[sentence_of(bank) if code == ENDED else str(code)] += 1
    raise AssertionError(f"it does not get on: {ends}")


@pytest.mark.chaos
@pytest.mark.parametrize("number", [KILL, TERM])
def test_signals_at_any_moment_lose_and_double_nothing(drivers, tmp_path, number):
    random, num, banks = seed_of_this_run(), 0, 0
    wanted = NUM_KILLS if number == KILL else NUM_KILLS // 4
    while num < wanted:
        num += signalled(drivers, tmp_path / f"bank-{banks}", number, random)
        banks += 1
        say(f"{num} times {number.name}, {banks} banks")


def signalled(drivers: Drivers, bank: Path, number: signal.Signals, random: Random) -> int:
    """Send a signal to one driver after another, each after a random time, until one gets through; how many got it."""
    num, patience_s = 0, drivers.idle_s + drivers.took_s / 15
    for _ in range(MAX_STARTS):
        driver = drivers.start(bank)
        driver.join(random.uniform(0, patience_s))
        if driver.exitcode is None:
            os.kill(driver.pid, number)
        code = end_of(driver, bank, -number)
        drivers.check_acknowledged(bank)
        if code == 0:
            drivers.check(bank)
            return num
        num += 1
        patience_s *= 1.02  # on a slow machine, too, one gets through
    raise AssertionError("it does not get on")


@pytest.mark.chaos
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_point_loses_and_doubles_nothing(drivers, tmp_path, point, moment):
    random = seed_of_this_run()
    faults = (Fault(kill=(moment, point, number_of(random, point, moment))) for _ in count())
    ends = resume(drivers, tmp_path / "bank", lambda: next(faults), -KILL)
    say(f"{moment} {point}: {ends.total()} kills")
    assert ends.total() > 0


def number_of(random: Random, point: str, moment: str) -> int:
    """Which change: of the first, a driver that is killed before it makes none, and never gets on."""
    num = 1 if point == "artifact" else 3  # of artifacts there are two
    return random.randint(1, num) + (moment == "before")


@pytest.mark.chaos
def test_two_drivers_of_one_recipe_of_which_one_is_killed(drivers, tmp_path):
    random = seed_of_this_run()
    ends = Counter[str]()
    for number in range(4):
        bank = tmp_path / f"bank-{number}"
        both = [drivers.start(bank) for _ in range(2)]
        both[0].join(random.uniform(0, drivers.took_s))
        is_killed = number % 2 == 1 and both[0].exitcode is None
        if is_killed:
            both[0].kill()
        for driver in both:
            code = end_of(driver, bank, ENDED, -KILL)
            ends[sentence_of(bank) if code == ENDED else str(code)] += 1
        end_of(drivers.start(bank), bank)
        drivers.check(bank, are_several=True)
    say(ends)


@pytest.mark.chaos
def test_eight_appenders_lose_and_double_nothing(drivers, tmp_path):
    random, bank = seed_of_this_run(), tmp_path / "bank"
    slices = [(5 * number, 5 * number + 5) for number in range(40)]
    writers = []
    for _ in range(8):  # all of them append all slices
        random.shuffle(slices)
        writers.append(start(append, str(bank), journal_of(bank), list(slices), shim=drivers.shim))
    for writer in writers:
        assert end_of(writer, bank) == 0
    drivers.check_acknowledged(bank)
    ids = Workspace(bank).table("clips").ids(OLD).to_pylist()
    assert sorted(ids) == [f"{number:05}" for number in range(200)]


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["EIO", "ENOSPC", "short"])
def test_a_change_of_a_file_that_fails_loses_and_doubles_nothing(drivers, tmp_path, kind):
    if drivers.shim is None:
        pytest.skip("there is no C compiler")
    random = seed_of_this_run()
    ends = resume(drivers, tmp_path / "bank", lambda: Fault(write=(kind, random.randint(1, 25))), ENDED)
    say(kind, ends)
    assert kind == "short" or ends.total() > 0
    if kind == "ENOSPC":
        assert all(FULL in sentence for sentence in ends)


@pytest.mark.chaos
def test_a_disk_that_is_full_again_and_again(drivers, tmp_path):
    with small_disk(tmp_path / "disk") as grow:
        bank = tmp_path / "disk" / "bank"
        journal_of(bank).symlink_to(tmp_path / "journal")

        def next_fault() -> Fault:
            grow()
            return Fault()

        ends = resume(drivers, bank, next_fault, ENDED)
    say(ends)
    assert ends.total() > 5 and all(FULL in sentence for sentence in ends)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A tmpfs, and what makes it larger."""
    folder.mkdir()
    kib = STEP_KIB
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")

    def grow() -> None:
        nonlocal kib
        kib += STEP_KIB
        subprocess.run(["mount", "-o", f"remount,size={kib}k", folder], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.chaos
def test_a_driver_without_memory_dies_and_the_next_goes_on(drivers, tmp_path):
    random, bank, ends = seed_of_this_run(), tmp_path / "bank", Counter[int]()
    for _ in range(12):
        driver = drivers.start(bank, Fault(memory_bytes=random.randrange(2**20, 2**27)))
        driver.join(PATIENCE_S / 10)
        if driver.is_alive():  # delta-rs waits for ever for a thread of its own that could not be started
            driver.kill()
            driver.join()
        ends[driver.exitcode] += 1
        drivers.check_acknowledged(bank)
    end_of(drivers.start(bank), bank)
    drivers.check(bank)
    say(ends)
    assert ends.keys() - {0}
