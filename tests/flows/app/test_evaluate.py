"""`aai evaluate` as a user calls it, on a small collection: its folder, its page in a browser, and a second call."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from PIL import Image
from typer.testing import CliRunner

from aai.models.joint import load_joint
from aai.profiles import PROFILES
from flows.app.cli import app
from tasks.evaluate.cells import image_ids
from tests.collection import CLIPS, NUM_CLIPS, write_collection
from tests.flows.app.test_report import CHROMIUM, DRIVER, FLAGS
from tests.models.joint_encoders import write_gemma

METHODS = ["mapper", "label", "random"]
PROMPT = "a photo of *"


def call(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models_stay) -> Path:
    """A collection whose last clip has no label, with a configuration and a comparison."""
    folder = write_collection(tmp_path_factory.mktemp("compared") / "here")
    lines = (folder / "said.csv").read_text().splitlines()
    unnamed = next(line for line in lines if line.startswith("sounds/fire-0.9"))
    (folder / "said.csv").write_text("\n".join(line for line in lines if line != unnamed) + "\n")
    keys = {"audio": "sounds", "images": "images", "metadata": "said.csv", "fit": {"method": "mapper"}}
    keys |= {"pool": {"num_workers": 0}, "render": {"steps": 1, "guidance": 1}, "retrieve": {"num_neighbours": 2}}
    (folder / "aai.yaml").write_text(yaml.safe_dump(keys))
    comparison = {"methods": METHODS, "reference": "label", "prompts": [PROMPT]}
    (folder / "compare.yaml").write_text(yaml.safe_dump(comparison))
    return folder


@pytest.fixture(scope="module")
def first(folder) -> str:
    done = call("evaluate", str(folder / "compare.yaml"))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def cells(folder, first) -> list[dict]:
    return pq.read_table(folder / "comparison" / "cells.parquet").to_pylist()


def test_the_terminal_shows_figures_and_what_is_missing(first, folder):
    text = " ".join(first.split())
    assert all(name in text for name in (*METHODS, "phenomenon", "intensity slope", "(not independent)"))
    assert "label: 1 pictures are missing: the clip has no label" in text
    assert f"{NUM_CLIPS} clips; intervals" in text and "clips without a label: 1;" in text
    assert text.endswith(f"wrote {folder}/comparison/index.html")


def test_a_log_file_says_what_each_stage_did_for_which_method(first):
    text = " ".join(first.split())
    assert f"retrieve: {NUM_CLIPS} new in" in text and f"mapper: fit: {NUM_CLIPS} new in" in text
    assert f"label: render: {NUM_CLIPS - 1} new" in text and "random: render" not in text


def test_a_narrow_terminal_gets_tables_side_by_side_in_turn(folder, first):
    """No name and no number is cut."""
    done = CliRunner().invoke(app, ["evaluate", str(folder / "compare.yaml")], env={"COLUMNS": "60"})
    assert done.exit_code == 0 and "…" not in done.output
    assert done.output.count("┃ figure") == 2 and all(name in done.output for name in METHODS)


def test_there_is_a_cell_for_each_clip_and_method(cells, folder):
    assert len(cells) == NUM_CLIPS * len(METHODS)
    columns = ["clip_id", "clip_uri", "label", "method", "prompt", "seed", "photo", "seconds"]
    assert list(cells[0])[: len(columns)] == columns
    for cell in cells:
        is_missing = cell["method"] == "label" and cell["label"] is None
        assert (cell["image"] is None) == is_missing and cell["prompt"] == PROMPT
        assert is_missing or (folder / "comparison" / cell["image"]).stat().st_size > 100
        assert (
            cell["own_intensity"] == (None if cell["label"] is None else pytest.approx(0.2))
            or cell["own_intensity"] == 0.9
        )


def test_each_clip_has_a_seed_of_its_own_which_the_methods_share(cells):
    seeds = {
        clip: {cell["seed"] for cell in cells if cell["clip_id"] == clip} for clip in {c["clip_id"] for c in cells}
    }
    assert (
        all(len(own) == 1 for own in seeds.values()) and len({next(iter(own)) for own in seeds.values()}) == NUM_CLIPS
    )


def test_pictures_are_measured_and_those_of_chance_too(cells):
    for cell in cells:
        if cell["image"] and cell["label"]:
            assert {cell["judge_phenomenon"], cell["aic"]} <= {0, 1} and 0 <= cell["clip_score"] <= 2.5
            assert -1 <= cell["ais_cosine"] <= 1 and 0 <= cell["ais_rank"] <= 1
    assert {cell["seconds"] for cell in cells if cell["method"] != "mapper"} == {0}


def test_the_json_has_definitions_and_figures_with_intervals(folder, first):
    found = json.loads((folder / "comparison" / "results.json").read_text())
    metrics = {metric["name"]: metric for metric in found["metrics"]}
    assert not metrics["ais_rank"]["is_independent"] and metrics["judge_phenomenon"]["is_independent"]
    assert metrics["clip_score"]["range"] == [0, 2.5] and metrics["kid"]["direction"] == "down"
    assert all(metric["definition"] and metric["source"] for metric in metrics.values())
    assert found["reference"] == "label" and [method["name"] for method in found["methods"]] == METHODS
    assert {figure["metric"] for figure in found["figures"]} >= {"judge_phenomenon", "clip_score", "kid", "cmmd"}
    assert "mapper" in (folder / "comparison" / "results.md").read_text()


def test_a_second_call_does_nothing(folder, first):
    written = {path: path.stat().st_mtime_ns for path in (folder / "comparison").rglob("*") if path.is_file()}
    done = call("evaluate", "compare", str(folder / "compare.yaml"))
    assert done.exit_code == 0 and f"nothing to do: {folder}/comparison/index.html" in " ".join(done.output.split())
    assert {path: path.stat().st_mtime_ns for path in (folder / "comparison").rglob("*") if path.is_file()} == written


def test_pictures_that_cannot_be_read_are_said_and_come_with_the_next_call(folder, first, monkeypatch):
    shards, out = folder / "bank" / "shards", folder / "read again"
    shards.rename(folder / "away")
    again = ("evaluate", str(folder / "compare.yaml"), "-o", str(out))
    try:
        done = call(*again)
    finally:
        (folder / "away").rename(shards)
    assert done.exit_code == 0, done.output
    assert f"{NUM_CLIPS * 2 - 1} files cannot be read: the shard is not there" in " ".join(done.output.split())
    assert "the shard is not there" in (out / "results.md").read_text()
    done = call(*again)
    assert "cannot be read" not in done.output and f"wrote {out}/index.html" in " ".join(done.output.split())
    assert "nothing to do" in call(*again).output
    monkeypatch.setattr("tasks.evaluate.compare.version", lambda _: "0.0.1")
    assert "wrote" in call(*again).output  # by another version
    monkeypatch.setattr("tasks.evaluate.compare.image_ids", lambda run, num: image_ids(run, num)[1:])
    assert "wrote" in call(*again).output  # the collection has other images, so KID has another value
    rows = pq.read_table(out / "cells.parquet").to_pylist()
    assert sum(row["image"] is None for row in rows) == 1  # of the label that a clip lacks


def test_only_pictures_that_an_earlier_comparison_names_are_removed(folder, first):
    out = folder / "fewer"
    assert call("evaluate", str(folder / "compare.yaml"), "-o", str(out)).exit_code == 0
    rows = pq.read_table(out / "cells.parquet").to_pylist()
    others = [out / "pictures" / f"{0:032x}.webp", out / rows[0]["image"].replace(".png", ".json")]
    for path in others:
        path.write_text("{}")
    fewer = {**yaml.safe_load((folder / "compare.yaml").read_text()), "methods": METHODS[:2]}
    (folder / "fewer.yaml").write_text(yaml.safe_dump(fewer))
    assert call("evaluate", str(folder / "fewer.yaml"), "-o", str(out)).exit_code == 0
    named = {row["image"] for row in rows if row["method"] in METHODS[:2]} - {None}
    there = {f"pictures/{path.name}" for path in (out / "pictures").iterdir() if path not in others}
    assert there == named < {row["image"] for row in rows} and all(path.exists() for path in others)


@pytest.mark.parametrize("harm", ["removed", "emptied", "table"])
def test_a_damaged_comparison_is_written_anew(folder, first, harm):
    out = folder / harm
    again = ("evaluate", str(folder / "compare.yaml"), "-o", str(out))
    assert call(*again).exit_code == 0
    rows = pq.read_table(out / "cells.parquet").to_pylist()
    sound, picture = out / rows[0]["sound"], out / rows[0]["image"]
    if harm == "removed":
        sound.unlink()
        picture.unlink()
    elif harm == "emptied":
        sound.write_bytes(b"")
        picture.write_bytes(b"")
    else:
        data = (out / "cells.parquet").read_bytes()
        (out / "cells.parquet").write_bytes(data[:4] + b"x" * 600 + data[604:])
    done = call(*again)
    assert done.exit_code == 0 and f"wrote {out}/index.html" in " ".join(done.output.split())
    assert pq.read_table(out / "cells.parquet").to_pylist() == rows
    assert sound.stat().st_size and picture.stat().st_size and "nothing to do" in call(*again).output


def test_a_wrong_method_is_named_before_any_work(folder, tmp_path):
    (tmp_path / "compare.yaml").write_text("methods: [{name: mine, set: {fit.step: 3}}]")
    done = call("evaluate", str(tmp_path / "compare.yaml"), "-c", str(folder / "aai.yaml"))
    assert done.exit_code == 2 and "methods.mine: fit.step: there is no such key" in " ".join(done.output.split())


@pytest.mark.parametrize(("key", "value"), [("workspace", "other"), ("seed", 4), ("images", "sounds")])
def test_what_is_the_banks_is_refused_of_a_method(folder, tmp_path, key, value):
    mine = {"methods": ["mapper", {"name": "mine", "set": {key: value}}]}
    (tmp_path / "compare.yaml").write_text(yaml.safe_dump(mine))
    done = call("evaluate", str(tmp_path / "compare.yaml"), "-c", str(folder / "aai.yaml"))
    assert done.exit_code == 2 and f"methods.mine: {key}: all methods use the bank's" in " ".join(done.output.split())
    assert not (folder / "other").exists()


def test_clips_without_a_cue_are_counted(folder, first):
    by_label = {"name": "by label", "set": {"retrieve.method": "label"}}
    (folder / "lacking.yaml").write_text(
        yaml.safe_dump({"methods": ["mapper", by_label], "prompts": [PROMPT], "output": "lacking"})
    )
    done = call("evaluate", str(folder / "lacking.yaml"))
    assert done.exit_code == 0 and "by label: clips without pictures: 1 (it has no label" in " ".join(
        done.output.split()
    )
    assert "mapper: clips without" not in done.output


def test_labels_that_no_clip_has_are_named(folder, first):
    some = {"methods": ["mapper"], "prompts": [PROMPT], "clips": {"labels": ["fire", "fir"]}, "output": "some"}
    (folder / "some.yaml").write_text(yaml.safe_dump(some))
    done = call("evaluate", str(folder / "some.yaml"))
    assert "no cue that passes the filter of clips has: label fir; the labels are" in " ".join(done.output.split())


def test_nothing_is_replaced_where_no_method_has_a_picture(folder, first):
    before = {path: path.read_bytes() for path in (folder / "comparison").rglob("*") if path.is_file()}
    nowhere = {"methods": ["mapper", "random"], "prompts": ["a * {nowhere}"]}
    (folder / "nowhere.yaml").write_text(yaml.safe_dump(nowhere))
    done = call("evaluate", str(folder / "nowhere.yaml"))
    assert done.exit_code == 2 and "no method has a picture; mapper" in " ".join(done.output.split())
    assert {path: path.read_bytes() for path in (folder / "comparison").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("command", "keys", "sentence"),
    [
        ((), {"audio": "sounds", "images": "images"}, "it is a bank's configuration"),
        ((), {"vary": {"steps": [0, 8]}}, "it describes a sweep: `aai evaluate sweep "),
        (("sweep",), {"methods": ["mapper"]}, "it describes a comparison: `aai evaluate "),
    ],
)
def test_a_description_of_something_else_is_named(tmp_path, command, keys, sentence):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(keys))
    done = call("evaluate", *command, str(tmp_path / "other.yaml"))
    assert done.exit_code == 2 and sentence in " ".join(done.output.split())


def test_a_folder_of_others_is_refused_before_any_work(folder, first, tmp_path):
    (tmp_path / "index.html").write_text("my site")
    pictures, new = list((folder / "bank").rglob("*.tar")), ("--set", "render.steps=2")
    for output in (tmp_path, folder):  # whose folder sounds are the bank's recordings
        done = call("evaluate", str(folder / "compare.yaml"), *new, "-o", str(output))
        assert done.exit_code == 2 and f"{output}: output: " in " ".join(done.output.split()), done.output
    assert list((folder / "bank").rglob("*.tar")) == pictures
    assert (tmp_path / "index.html").read_text() == "my site" and len(list(tmp_path.iterdir())) == 1
    assert not (folder / "index.html").exists()


def heard_again(folder: Path, audio_judge: str) -> Path:
    """The configuration with a second joint encoder."""
    keys = yaml.safe_load((folder / "aai.yaml").read_text()) | {"models": {"audio_judge": audio_judge}}
    (folder / "heard.yaml").write_text(yaml.safe_dump(keys))
    return folder / "heard.yaml"


def test_a_second_joint_encoder_hears_and_sees_for_itself_and_only_once(folder, first):
    joint = load_joint(write_gemma(folder / "ear"))
    config = heard_again(folder, "ear")
    done = call("evaluate", str(folder / "compare.yaml"), "-c", str(config), "-o", str(folder / "heard"))
    assert done.exit_code == 0, done.output
    assert "| AIS-cos ↑ |" in (folder / "heard" / "results.md").read_text()
    metrics = {each["name"]: each for each in json.loads((folder / "heard" / "results.json").read_text())["metrics"]}
    assert metrics["ais_rank"]["is_independent"] and not metrics["clip_score"]["is_independent"]
    rows = [row for row in pq.read_table(folder / "heard" / "cells.parquet").to_pylist() if row["image"]]
    clips = {row["clip_uri"]: soundfile.read(row["clip_uri"], dtype="float32") for row in rows}
    ((_, rate_hz), *_) = clips.values()
    heard = dict(zip(clips, joint.sounds.embed_clips([wave for wave, _ in clips.values()], rate_hz), strict=True))
    seen = joint.images.embed_images([np.array(Image.open(folder / "heard" / row["image"])) for row in rows])
    for row, vector in zip(rows, seen, strict=True):  # random weights magnify what rounding and padding do
        assert row["ais_cosine"] == pytest.approx(float(vector @ heard[row["clip_uri"]]), abs=0.02)
    measured = list((folder / "bank" / "measures").rglob("*.parquet"))
    assert call("evaluate", str(folder / "compare.yaml"), "-c", str(config), "-o", str(folder / "twice")).exit_code == 0
    assert list((folder / "bank" / "measures").rglob("*.parquet")) == measured


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "there is no such folder or file"),
        (
            PROFILES["tiny"]["models"]["image_text"],
            "one of the type pe_audio_video or embedding_gemma2 is needed",
        ),
        ("unpacked", "the package timm: pip install timm torchvision, or name EmbeddingGemma 2"),
    ],
)
def test_a_second_encoder_that_cannot_be_is_named_before_any_picture(folder, first, name, sentence, monkeypatch):
    monkeypatch.setattr("aai.models.folders.find_spec", lambda package: None)
    (folder / "unpacked").mkdir(exist_ok=True)
    (folder / "unpacked" / "config.json").write_text('{"model_type": "pe_audio_video"}')
    config, new = heard_again(folder, name), ("--set", "render.steps=2", "-o", str(folder / "never"))
    pictures = list((folder / "bank").rglob("*.tar"))
    done = call("evaluate", str(folder / "compare.yaml"), "-c", str(config), *new)
    assert done.exit_code == 2 and sentence in " ".join(done.output.split()), done.output
    assert "models.audio_judge: " in done.output and "Traceback" not in done.output
    assert list((folder / "bank").rglob("*.tar")) == pictures and not (folder / "never").exists()


@pytest.fixture(scope="module")
def opened(folder, first, tmp_path_factory) -> Iterator:
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium and chromedriver are not installed")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(DRIVER))
    driver.get((folder / "comparison" / "index.html").as_uri())
    yield driver
    driver.quit()


def test_the_page_sorts_clips_by_the_difference_of_two_methods(opened, cells):
    from selenium.webdriver.support.ui import Select

    assert opened.get_log("browser") == []
    assert opened.find_element("id", "count").text == f"{NUM_CLIPS} of {NUM_CLIPS} shown"
    for field, value in (("metric", "clip_score"), ("method", "mapper"), ("minus", "label")):
        Select(opened.find_element("id", field)).select_by_value(value)
    scores = {(cell["clip_id"], cell["method"]): cell["clip_score"] for cell in cells}
    labelled = {cell["clip_id"] for cell in cells if cell["label"]}
    wanted = sorted(labelled, key=lambda clip: scores[clip, "label"] - scores[clip, "mapper"])
    shown = [card.get_attribute("id") for card in opened.find_elements("css selector", ".card")]
    assert shown[: len(CLIPS) - 1] == [f"clip-{clip}" for clip in wanted]
    opened.find_element("id", "find").send_keys("rain")
    assert opened.find_element("id", "count").text == f"2 of {NUM_CLIPS} shown"
