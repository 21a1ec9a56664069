"""Ids, recipes and seeds: the same for the same contents, others for anything else, today and in a year."""

import numpy as np
import pytest
from pydantic import BaseModel

from aai.identity import clip_id, content_id, image_id, int64_of, recipe_of, seed_of

SEED = dict(run_seed=7, stage="fit", item_id="ab12", purpose="noise", step=3)
RECIPE = dict(
    stage="fit",
    options={"steps": 64, "learning_rate": 5e-3, "stop": {"patience": 8, "tolerance": None}},
    models={"diffusion": "tiny@1", "text": "tiny@2"},
    upstream={"neighbours": "0123456789ab", "mapper": "ba9876543210"},
    code_version=1,
)


class Stop(BaseModel):
    patience: int = 8
    tolerance: float | None = None


class Fit(BaseModel):
    steps: int = 64
    learning_rate: float = 5e-3
    stop: Stop = Stop()


def test_names_stay_the_same_between_releases():
    file_id = content_id(b"rain")
    assert file_id == "1a9b85535cffc05c0aeaa242e5b550bd"
    assert clip_id(file_id, 0.0, 5.0) == "0bd396eab6c657eb64583ce790df35a3"
    assert int64_of(file_id) == 958636329732661294
    assert seed_of(**SEED) == 9134557294862005322
    assert recipe_of(**RECIPE) == "45c198a6b8f9"


def test_an_image_is_its_bytes():
    assert image_id(b"rain") == content_id(b"rain") != image_id(b"Rain")


def test_a_clip_is_a_file_and_a_window():
    clips = [
        clip_id(file, start, length)
        for file in ("ab", "ab1")
        for start in (0.0, 1.0, 12.0)
        for length in (1.0, 2.0, 21.0)
    ]
    assert len(set(clips)) == len(clips)


def test_a_window_may_carry_a_rounding_error():
    assert clip_id("ab", 0.1 + 0.2, 5.0) == clip_id("ab", 0.3, 5.0)


@pytest.mark.parametrize("name", [f"{first}{'0' * 30}" for first in ("00", "7f", "80", "ff")])
def test_numbers_for_faiss_are_int64_and_never_negative(name):
    assert 0 <= int64_of(name) <= np.iinfo(np.int64).max


def test_numbers_for_faiss_differ():
    assert len({int64_of(content_id(bytes([i]))) for i in range(256)}) == 256


@pytest.mark.parametrize(
    "change", [{"run_seed": 8}, {"stage": "render"}, {"item_id": "ab13"}, {"purpose": "t"}, {"step": 4}]
)
def test_every_part_of_an_address_changes_the_seed(change):
    assert seed_of(**SEED | change) != seed_of(**SEED)


@pytest.mark.parametrize(
    "one, other",
    [
        ((1, "fit", "ab", "t"), (1, "fi", "tab", "t")),
        ((1, "fit", "ab", "t"), (1, "fit", "a", "bt")),
        ((1, "fit", "ab", "t", 12), (11, "fit", "ab", "t", 2)),
        ((1, 'fit","ab', "c", "t"), (1, "fit", 'ab","c', "t")),
        ((1, "", "fit", "t"), (1, "fit", "", "t")),
    ],
)
def test_parts_of_an_address_do_not_run_into_one_another(one, other):
    assert seed_of(*one) != seed_of(*other)


def test_seeds_fit_every_generator_and_use_its_whole_range():
    seeds = [seed_of(0, "fit", "ab12", "noise", step) for step in range(1000)]
    assert len(set(seeds)) == 1000
    assert min(seeds) >= 0
    assert 2**62 < max(seeds) < 2**63


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "learn"},
        {"options": RECIPE["options"] | {"steps": 65}},
        {"options": RECIPE["options"] | {"stop": {"patience": 9, "tolerance": None}}},
        {"options": RECIPE["options"] | {"templates": ["noun"]}},
        {"models": {"diffusion": "tiny@1", "text": "tiny@3"}},
        {"models": {"diffusion": "tiny@2", "text": "tiny@1"}},
        {"upstream": {"neighbours": "0123456789ab"}},
        {"upstream": {"neighbours": "ba9876543210", "mapper": "0123456789ab"}},
        {"code_version": 2},
    ],
)
def test_every_part_of_a_computation_changes_its_recipe(change):
    assert recipe_of(**RECIPE | change) != recipe_of(**RECIPE)


def _reversed(value):
    return {key: _reversed(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


def test_the_order_of_keys_does_not_change_a_recipe():
    assert recipe_of(**{key: _reversed(value) for key, value in RECIPE.items()}) == recipe_of(**RECIPE)


def test_options_name_the_same_recipe_as_their_values():
    assert recipe_of(**RECIPE | {"options": Fit()}) == recipe_of(**RECIPE)
    assert recipe_of(**RECIPE | {"options": Fit(stop=Stop(patience=9))}) != recipe_of(**RECIPE)


@pytest.mark.parametrize("value, error", [({1, 2}, TypeError), (float("nan"), ValueError)])
def test_options_without_one_text_are_refused(value, error):
    with pytest.raises(error):
        recipe_of(**RECIPE | {"options": {"value": value}})
