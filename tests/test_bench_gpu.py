"""`make bench-gpu` measures every row, here with the tiny models on a CPU."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from aai.workspace import Workspace
from bench.gpu.__main__ import PARTS, measure_apart, measure_here
from bench.gpu.fit import _fitted, _limited
from bench.gpu.rows import ROWS, Measured, complete, markdown, write
from bench.gpu.setting import Setting, small_setting, write_models
from tasks.runtime.models import image_role, sound_role

QUICK = ("placement", "embed", "search")


def parts(*names: str) -> list:
    return [part for part in PARTS if part.name in names]


def check(rows: list[dict], of: tuple[str, ...]) -> None:
    """Every row of some parts is there, and its numbers are not made up."""
    assert [row["name"] for row in rows] == [row.name for row in ROWS if row.part in of]
    for row in rows:
        assert not row["error"], row
        assert row["num_items"] > 0 and row["values"] and all(0 < value < 1e7 for value in row["values"]), row
        assert min(row["values"]) <= row["value"] <= max(row["values"])
        for name in ("peer", "alone"):
            assert (row[name] is None) == (row[f"{name}_is"] == ""), row["notes"]
            assert row[name] is None or 0 < row[name] < 1e7


def test_quick_parts_are_measured_and_written(tmp_path):
    measured, errors = measure_here(parts(*QUICK), tmp_path / "work")
    assert errors == {}
    write(tmp_path / "gpu.json", {"card": "none"}, complete(measured, QUICK, errors))
    written = json.loads((tmp_path / "gpu.json").read_text())
    check(written["rows"], QUICK)
    found = {row["name"]: row for row in written["rows"]}
    assert found["placed"]["value"] == 8
    assert found["embed_images"]["num_items"] == found["embed_audio"]["num_items"] == 3
    assert "100.00% of the neighbours" in " ".join(found["search"]["notes"])
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + len(written["rows"])


def test_at_full_size_encoders_are_those_that_are_written(tmp_path):
    """Whatever the profile's defaults are: a machine with a GPU may have no network."""
    for name in ("clip", "clap", "sd15"):
        (tmp_path / "models" / name).mkdir(parents=True)
    config = Setting(tmp_path).open("bank").config
    assert (image_role(config), sound_role(config)) == ("image_text", "audio")
    assert {config.models.image_text.name, config.models.audio.name} == {
        str(tmp_path / "models" / name) for name in ("clip", "clap")
    }


def test_the_rate_of_fitting_counts_steps_that_were_taken(tmp_path):
    setting = small_setting(tmp_path)
    write_models(setting, ("sd15",))
    measured = _fitted(setting, Measured("fit"), steps=1, repetitions=0)
    assert measured.num_items == 2 * 4
    cues = Workspace(str(tmp_path / "fit")).table("cues").read().to_pylist()
    assert [(row["method"], row["steps"]) for row in cues] == [("adapter", 1)] * 2


def test_the_limit_of_16_gb_and_its_counts_end_with_its_row(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(total_memory=140e9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    monkeypatch.setattr(torch.cuda, "reset_accumulated_memory_stats", lambda: calls.append("reset"))
    with _limited(Measured("fit_16gb")):
        assert calls == [pytest.approx(15.4 / 140), "reset"]
    assert calls[2:] == [1.0, "reset"]


def test_the_error_of_a_part_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.gpu.search._top", lambda *_: 1 / 0)
    measured, errors = measure_here(parts("placement", "search"), tmp_path)
    assert errors == {"search": "ZeroDivisionError: division by zero"}
    [placed, search] = complete(measured, ["placement", "search"], errors)
    assert placed.value == 8 and search.value is None and search.error == errors["search"]
    assert "not measured: ZeroDivisionError" in markdown({}, [search])


@pytest.mark.slow
def test_a_part_in_a_process_of_its_own_and_one_without_time(tmp_path):
    measured, errors = measure_apart(parts("placement"), tmp_path / "a", limit_s=120)
    assert [each.row for each in measured] == ["placed"] and errors == {}
    measured, errors = measure_apart(parts("placement"), tmp_path / "b", limit_s=0)
    assert measured == [] and errors == {"placement": "left out: 0 s were left of --time"}


def test_a_missed_goal_is_marked():
    rate, late = Measured("embed_images", [900.0, 1_100.0], 9), Measured("next_stage", [3.0], 1)
    assert "| 1,000 images/s, **missed** |" in markdown({}, [rate])
    assert "| 3 s, **missed** |" in markdown({}, [late])
    assert "missed" not in markdown({}, [Measured("next_stage", [1.9], 1), Measured("fit_16gb", [1.0], 1)])


@pytest.mark.slow
def test_all_parts_by_the_command(tmp_path):
    command = [sys.executable, "-m", "bench.gpu", "--small", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    [interval] = [row for row in rows if row["name"] == "render_interval"]
    if interval["error"]:
        assert "there is no option" in interval["error"]
        rows.remove(interval)
        assert len(rows) == len(ROWS) - 1
    else:
        check(rows, tuple(part.name for part in PARTS))


def test_an_unknown_part_is_named():
    command = [sys.executable, "-m", "bench.gpu", "--only", "embed,sing"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there is no part sing: choose from placement, embed" in done.stderr
