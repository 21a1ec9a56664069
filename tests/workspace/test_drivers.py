"""Files of drivers at work: listed, read, renewed, and removed once nobody needs them."""

import os
from pathlib import Path

import pytest

from aai.errors import BadConfig
from aai.workspace import Workspace
from aai.workspace.drivers import (
    DRIVERS,
    DriverFile,
    Process,
    list_drivers,
    new_name,
    read_drivers,
    remove_driver,
    write_driver,
)
from aai.workspace.maintenance import find_garbage, remove_garbage
from tests.workspace.rows import OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def test_a_file_says_who_the_driver_is_and_what_it_has_in_hand(workspace):
    store, name = workspace.store, new_name("cues", OLD)
    assert list_drivers(store) == [] and read_drivers(store, []) == {}
    file = DriverFile(process=Process.here(), claims=DriverFile.encoded(b"12345678"))
    write_driver(store, name, file)
    [listed] = list_drivers(store)
    assert (listed.name, listed.table) == (name, "cues")
    read = read_drivers(store, [name, "gone"])
    assert read == {name: file} and read[name].hashes == b"12345678" and read[name].process.is_here()
    assert str(file.process) == f"host {file.process.host}, process {os.getpid()}, since {file.process.since} UTC"
    write_driver(store, name, file.model_copy(update={"renewals": 1}))
    assert list_drivers(store)[0].version != listed.version
    remove_driver(store, name)
    remove_driver(store, name)
    assert list_drivers(store) == []


def test_drivers_of_a_stage_are_listed_alone_and_other_files_are_none(workspace):
    store, file = workspace.store, DriverFile(process=Process.here())
    names = [new_name("cues", OLD), new_name("cues", "cd34"), new_name("index", OLD)]
    for name in names:
        write_driver(store, name, file)
    Path(store.path(DRIVERS, "notes.json")).write_text("not of a driver")
    Path(store.path(DRIVERS, names[0])).write_text("{")
    assert {driver.name for driver in list_drivers(store)} == set(names)
    assert [driver.name for driver in list_drivers(store, "cues", OLD)] == names[:1]
    assert read_drivers(store, names) == dict.fromkeys(names[1:], file)


def test_files_that_killed_drivers_left_are_no_orphans_and_are_pruned_when_they_are_old(workspace):
    workspace.table("clips").append(OLD, rows_of("clips", ["a"]))
    old, new = (f"{DRIVERS}/{new_name('cues', OLD)}" for _ in range(2))
    for path in (old, new):
        write_driver(workspace.store, path.rpartition("/")[2], DriverFile(process=Process.here()))
    os.utime(workspace.store.path(old), (0, 0))
    health = workspace.health()
    assert (health.orphan_files, health.orphan_shards, health.leftovers) == ([], [], [])
    assert find_garbage(workspace, 1.0).driver_files == [old]
    assert len(remove_garbage(workspace, 1.0)) == 1 and workspace.store.files(DRIVERS) == [new]


def test_a_folder_that_cannot_be_read_is_a_sentence(workspace):
    Path(workspace.store.path(DRIVERS)).parent.mkdir()
    Path(workspace.store.path(DRIVERS)).touch()
    with pytest.raises(Exception) as error:
        write_driver(workspace.store, new_name("cues", OLD), DriverFile(process=Process.here()))
    assert not isinstance(error.value, OSError) and not isinstance(error.value, BadConfig)


@pytest.mark.parametrize("claims", ["AAAA", "AAA", "no base 64"])
def test_a_file_with_damaged_claims_is_left_out(workspace, claims):
    store, name = workspace.store, new_name("cues", OLD)
    content = (
        DriverFile(process=Process.here(), claims="").model_dump_json().replace('"claims":""', f'"claims":"{claims}"')
    )
    store.write(f"{DRIVERS}/{name}", content.encode())
    assert read_drivers(store, [name]) == {}
