"""Edits compared with their sources: which pixels are to be kept, and what is measured there."""

import json
import math

import numpy as np
import pytest

from aai import metrics
from aai.errors import BadItem
from aai.evaluate.edits import psnr_outside, ssim_outside
from aai.identity import content_id
from aai.media.images import ImageOptions, encode
from aai.models.clip import ImageTextEncoder
from aai.tiny.world import WEIGHTS
from aai.workspace.shards import ShardWriter
from tasks.measure_edits import EditItem, EditMeasurer
from tests.bank import run_on

SIDE = 64
RNG = np.random.default_rng(5)
SOURCE = RNG.integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8)


def region(rows: slice) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[rows] = True
    return mask


TOP, UPPER = region(slice(0, 16)), region(slice(0, 32))
SMALL = np.where(TOP[..., None], 255 - SOURCE, SOURCE)
LARGE = np.where(UPPER[..., None], 255 - SOURCE, SOURCE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A measurer, the locations of a source and two edits, and a function that writes files of masks."""
    folder = tmp_path_factory.mktemp("work")
    run = run_on(folder / "bank")
    locations = {}
    with ShardWriter(run.workspace, "renders", run.recipe("renders"), "masked-png") as shard:
        for name, pixels, mask in (("source", SOURCE, None), ("small", SMALL, TOP), ("large", LARGE, UPPER)):
            locations[name] = vars(shard.add(name, "png", encode(pixels, "png"))) | {"format": "png"}
            if mask is not None:
                shard.add(name, "mask.png", grey(mask))
            shard.add(name, "json", b"{}")
    measurer = EditMeasurer(ImageTextEncoder(WEIGHTS / "clip"), run.workspace, ImageOptions())

    def written(mask: np.ndarray) -> dict:
        data = grey(mask)
        path = folder / f"{content_id(data)}.png"
        path.write_bytes(data)
        return {"uri": str(path), "offset": None, "num_bytes": None, "content_id": content_id(data)}

    return measurer, locations, written


def grey(mask: np.ndarray) -> bytes:
    return encode(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), "png")


def measured(measurer: EditMeasurer, *items: EditItem) -> list[dict[str, float]]:
    return measurer.finish([measurer.load(item.row()) for item in items])


def item(world, name: str, others=("small", "large"), **keys) -> EditItem:
    _, known, _ = world
    return EditItem(known[name], known["source"], True, others=[known[other] for other in others], **keys)


def test_without_a_truth_what_at_most_half_of_the_masks_reach_is_to_be_kept(world):
    small, large = measured(world[0], item(world, "small"), item(world, "large"))
    assert small[metrics.KEPT_PSNR] == metrics.MAX_PSNR_DB and small[metrics.KEPT_SSIM] > large[metrics.KEPT_SSIM]
    assert large[metrics.KEPT_PSNR] == pytest.approx(psnr_outside(LARGE, SOURCE, TOP))
    assert large[metrics.KEPT_SSIM] == pytest.approx(ssim_outside(LARGE, SOURCE, TOP))
    assert small[metrics.KEPT_DISTANCE] < large[metrics.KEPT_DISTANCE]
    assert 0 < small[metrics.STRUCTURE] and metrics.MASK_IOU not in small


def test_a_truth_comes_first_and_then_the_users_mask(world):
    _, _, written = world
    truth, allowed = written(UPPER), written(region(slice(0, 63)))
    known = item(world, "small", truth=truth, allowed=allowed)
    assert (known.kept, item(world, "small", allowed=allowed).kept) == ("truth", "allowed")
    [found] = measured(world[0], known)
    assert found[metrics.KEPT_PSNR] == metrics.MAX_PSNR_DB and found[metrics.MASK_IOU] == pytest.approx(0.5)
    [found] = measured(world[0], item(world, "large", truth=written(TOP)))
    assert found[metrics.KEPT_PSNR] == pytest.approx(psnr_outside(LARGE, SOURCE, TOP))


def test_where_nothing_is_to_be_kept_only_the_structure_is_compared(world):
    _, known, written = world
    alone = item(world, "large", others=())
    style = EditItem(known["large"], known["source"], False, truth=written(TOP))
    for each in (alone, style):
        [found] = measured(world[0], each)
        assert each.kept is None and set(found) == {metrics.STRUCTURE}
    [found] = measured(world[0], item(world, "large", truth=written(region(slice(0, SIDE)))))
    assert math.isnan(found[metrics.KEPT_PSNR]) and math.isnan(found[metrics.KEPT_DISTANCE])


def test_an_unchanged_picture_has_no_distance(world):
    _, known, written = world
    [found] = measured(world[0], EditItem(known["source"], known["source"], True, allowed=written(TOP)))
    assert found[metrics.STRUCTURE] == found[metrics.KEPT_DISTANCE] == 0
    assert found[metrics.KEPT_SSIM] == pytest.approx(1)


def test_an_item_is_the_same_however_its_others_are_ordered_and_without_those_that_do_not_count(world):
    _, _, written = world
    assert item(world, "small").row()["item_id"] == item(world, "small", others=("large", "small")).row()["item_id"]
    assert item(world, "small").row()["item_id"] != item(world, "small", others=()).row()["item_id"]
    with_truth = [item(world, "small", others, truth=written(TOP)).row() for others in ((), ("small", "large"))]
    assert with_truth[0] == with_truth[1] and json.loads(with_truth[0]["location"])["others"] == []


def test_a_mask_that_is_not_there_and_sizes_that_differ_are_named(world):
    measurer, known, written = world
    with pytest.raises(BadItem, match="write_mask"):
        measurer.load(item(world, "small", others=("source", "large")).row())
    wide = written(np.zeros((SIDE, 2 * SIDE), bool))
    with pytest.raises(BadItem, match="another size") as error:
        measurer.load(EditItem(known["small"], wide, True).row())
    assert error.value.uri == known["small"]["shard"]


def test_photos_and_masks_of_other_sizes_are_fitted(world):
    """A photo of 1.5 million pixels is reduced to one million; its mask may be smaller than it."""
    measurer, _, written = world
    photo = written(region(slice(0, 8)).repeat(16, axis=0).repeat(24, axis=1))
    found = measurer.load(EditItem(photo, photo, True, allowed=written(UPPER)).row())
    assert found.keep is not None and found.keep.size <= 2**20 and found.keep.shape[1] / found.keep.shape[0] > 1.49
    assert found.keep.mean() == pytest.approx(0.5, abs=0.02) and found.values[metrics.KEPT_SSIM] == pytest.approx(1)
