"""A comparison of edits: generated sources and photos, with and without a truth, on a small collection."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aai import metrics
from aai.errors import BadConfig
from aai.media.images import encode
from aai.tiny.scenes import Scene, background_of, render
from tasks.evaluate.compare import open_comparison
from tasks.evaluate.options import ComparisonOptions
from tests.collection import run_on
from tests.tasks.edits import seen

METHODS = ("mapper", "label", "random")
PLACES = ("city-1", "city-2")
NUM_CLIPS = 2
NAMES = ("photo", "generated", "style", "a photo of *")


def write_photos(folder: Path) -> None:
    """Photos of cities, and for each label where it would be in them."""
    for number, name in enumerate(PLACES):
        for label in ("rain", "fire"):
            scene = Scene("verb", label, "city", 0.9, number)
            mask = np.repeat(render([scene]).mask[0][..., None] * np.uint8(255), 3, axis=2)
            for path, pixels in (
                (folder / "photos" / f"{name}.png", render([background_of(scene)]).pixels[0]),
                (folder / "truth" / label / f"{name}.png", mask),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(pixels, "png"))


@pytest.fixture(scope="module")
def folder(shared_collection) -> Path:
    run = run_on(shared_collection)
    config = run.config.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    (shared_collection / "aai.yaml").write_text(json.dumps(config | {"render": {"steps": 2, "guidance": 1}}))
    write_photos(shared_collection)
    return shared_collection


def options_of(folder: Path, **keys) -> ComparisonOptions:
    photo = {"mode": "edit", "source_images": [str(folder / "photos")], "true_masks": str(folder / "truth/{label}")}
    photo |= {"name": "photo", "source_prompt": "a city", "prompt": "a * city"}
    generated = {"name": "generated", "mode": "edit", "source_prompt": "a {label} city", "prompt": "a * city"}
    style = {"name": "style", "mode": "stylise", "source_prompt": "a forest", "prompt": "a forest in the style of *"}
    given = {"prompts": [photo, generated, style, "a photo of *"], "methods": METHODS, "photos_per_clip": 1}
    given |= {"clips": {"limit": NUM_CLIPS}}
    given |= {"config": str(folder / "aai.yaml"), "output": str(folder / "out")}
    return ComparisonOptions(**given | keys)


@pytest.fixture(scope="module")
def compared(folder):
    return open_comparison(options_of(folder), {}).run()


@pytest.fixture(scope="module")
def cells(compared) -> list[dict]:
    return pq.read_table(compared.folder / "cells.parquet").to_pylist()


def of(cells: list[dict], prompt: str, method: str) -> list[dict]:
    return [cell for cell in cells if (cell["prompt"], cell["method"]) == (prompt, method)]


def test_every_method_edits_the_same_sources(cells, folder):
    for name in NAMES[:3]:
        sources = [{cell["clip_id"]: cell["source"] for cell in of(cells, name, method)} for method in METHODS[:2]]
        assert sources[0] == sources[1] and len(sources[0]) == NUM_CLIPS
        assert all((folder / "out" / path).exists() for path in sources[0].values())
    assert {cell["photo"] is not None for cell in of(cells, "photo", "label")} == {True}
    assert {cell["source"] for cell in of(cells, "a photo of *", "mapper")} == {None}


def test_an_edit_equals_its_source_outside_its_mask(cells, folder):
    for cell in of(cells, "generated", "mapper"):
        edit, source, mask = (seen((folder / "out" / cell[name]).read_bytes()) for name in ("image", "source", "mask"))
        assert np.abs(edit.astype(int) - source)[mask == 0].max(initial=0) <= 1


def test_what_is_kept_is_measured_and_the_mask_compared_with_the_truth(cells):
    for method in METHODS[:2]:
        assert all(0 <= cell[metrics.MASK_IOU] <= 1 for cell in of(cells, "photo", method))
        for cell in of(cells, "generated", method) + of(cells, "photo", method):
            assert cell[metrics.KEPT_PSNR] is None or 5 < cell[metrics.KEPT_PSNR] <= metrics.MAX_PSNR_DB
        for name in NAMES[:3]:
            assert all(cell[metrics.STRUCTURE] >= 0 for cell in of(cells, name, method))
        assert {cell[metrics.KEPT_SSIM] for cell in of(cells, "style", method)} == {None}
    fires = [cell for cell in cells if cell["label"] == "fire" and cell["prompt"] == "photo"]
    assert any(cell[metrics.KEPT_PSNR] for cell in fires)  # the truth of rain is the whole picture


def test_methods_that_edit_nothing_are_left_out_and_the_report_says_so(compared, cells):
    assert {cell["prompt"] for cell in cells if cell["method"] == "random"} == {"a photo of *"}
    text = " ".join(compared.notes)
    assert "random: nothing is edited, so they are not compared in photo, generated, style, nor in the figures" in text
    assert f"outside the true mask ({2 * NUM_CLIPS} edits)" in text and "half of the masks of all methods" in text
    figures = {(figure.metric, figure.prompt, figure.method) for figure in compared.figures}
    assert (metrics.CLIP_SCORE, "a photo of *", "random") in figures
    assert (metrics.CLIP_SCORE, None, "random") not in figures and (metrics.CLIP_SCORE, None, "label") in figures
    assert not any(metric in metrics.KEPT and method == "random" for metric, _, method in figures)


def test_the_results_have_the_definitions_of_edits(compared):
    found = json.loads((compared.folder / "results.json").read_text())
    known = {metric["name"]: metric for metric in found["metrics"]}
    assert known[metrics.KEPT_PSNR]["range"] == [0, pytest.approx(48.13, abs=0.01)]
    assert known[metrics.KEPT_DISTANCE]["is_independent"] and known[metrics.STRUCTURE]["direction"] == "down"
    page = (compared.folder / "index.html").read_text()
    assert page.count("<h4><bdi>source</bdi></h4>") == 3 * NUM_CLIPS and "photo: a * city" in page


def test_a_second_call_does_nothing(folder, compared):
    again = open_comparison(options_of(folder), {}).run()
    assert not again.is_new and [f.as_json() for f in again.figures] == [f.as_json() for f in compared.figures]


def test_one_method_alone_has_nothing_that_says_what_is_to_be_kept(folder, compared):
    [_, generated, *_] = options_of(folder).prompts
    alone = {"methods": ("mapper",), "prompts": [generated], "photos_per_clip": None, "output": str(folder / "alone")}
    found = open_comparison(options_of(folder, **alone), {}).run()
    assert f"unknown, as no other method edits the same source ({NUM_CLIPS} edits)" in " ".join(found.notes)
    assert {figure.metric for figure in found.figures} >= {metrics.STRUCTURE}
    assert not any(figure.metric in metrics.KEPT for figure in found.figures)


def test_an_edit_that_cannot_be_is_named_before_any_work(folder):
    wrong = {"mode": "edit", "source_prompt": "a city", "prompt": "a * city", "edit": {"threshold": 2}}
    with pytest.raises(BadConfig, match="prompts: job 1 \\(a \\* city\\): edit.threshold"):
        open_comparison(options_of(folder, prompts=[wrong], photos_per_clip=None), {})
