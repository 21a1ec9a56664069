"""Edits preserve their sources: on shrunk Stable Diffusion and SDXL pipelines, and judged in the tiny world."""

import numpy as np
import pytest
import torch

from aai.edit.attention_control import AttentionControl
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import STYLISED, EditOptions
from aai.edit.trajectories import InversionCache
from aai.errors import BadItem
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene
from aai.tiny.scenes import render as paint
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA
from aai.tiny.world import load_world
from tests.models.shrunk import SIZE

QUICK = RenderOptions(steps=3, guidance=4)
SHORT = RenderOptions(steps=4, guidance=4)
LONG = RenderOptions(steps=10, guidance=4)
PLAIN = {"cross_fraction": 0.0, "self_fraction": 0.0, "preserve": "none"}
SAMPLERS = [None, "ddim", "dpm++2m", "euler-a"]
WHATEVER_MODEL = pytest.mark.parametrize(
    "diffusion", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)], indirect=True, scope="module"
)
"""Of tests of what does not depend on the kind of the model."""


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def diffusion(request) -> Diffusion:
    return load_diffusion(request.getfixturevalue(f"{request.param}_folder"))


@pytest.fixture
def cues(diffusion) -> torch.Tensor:
    return torch.stack([diffusion.word_embeddings([word]) for word in ("fire", "rain", "dark")])


def request_of(cues: torch.Tensor | None, seeds: tuple[int, ...] = (1, 1, 2), **texts: list[str]) -> EditRequest:
    """Three edits of two sources."""
    texts = {"source_prompts": ["a city"] * 3, "prompts": ["a * city"] * 3, "negative_prompts": [""] * 3} | texts
    return EditRequest(seeds=list(seeds), cues=cues, **texts)


def single(request: EditRequest, index: int) -> EditRequest:
    parts = ([part[index]] for part in (request.source_prompts, request.prompts, request.seeds))
    return EditRequest(*parts, request.cues[index : index + 1], [request.negative_prompts[index]])


def photos_of(num: int = 2, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Smooth images: fine detail does not matter here."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    parts = [np.stack([down, across, np.sin(9 * down * (number + 1))], axis=-1) for number in range(num)]
    return (np.stack(parts) * 127 + 64).clip(0, 255).astype(np.uint8)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal up to rounding to integer levels."""
    return np.abs(first.astype(float) - second).max() <= 1 and distance(first, second) < 1e-3 * 255


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_source_equals_the_render_without_an_edit(diffusion, cues, sampler):
    options = RenderOptions(steps=QUICK.steps, guidance=4, scheduler=sampler)
    negatives = ["", "dark", "the style"]
    made = Editor(diffusion, options, EditOptions()).from_prompts(request_of(cues, negative_prompts=negatives))
    assert same(made.sources, diffusion.render(["a city"] * 3, [1, 1, 2], None, negatives, options))
    assert distance(made.sources[0], made.sources[2]) > 5


@WHATEVER_MODEL
def test_every_bit_of_a_seed_counts_in_an_edit(diffusion, cues):
    made = Editor(diffusion, QUICK, EditOptions()).from_prompts(request_of(cues, seeds=(1, 2**32 + 1, 2)))
    assert distance(made.sources[0], made.sources[1]) > 5 and distance(made.pictures[0], made.pictures[1]) > 5


@pytest.mark.parametrize(("sampler", "guidance"), [*((sampler, 4) for sampler in SAMPLERS), ("ddim", 1)])
def test_an_edit_without_injection_equals_the_render_of_its_prompt(diffusion, cues, sampler, guidance):
    options = RenderOptions(steps=QUICK.steps, guidance=guidance, scheduler=sampler)
    made = Editor(diffusion, options, EditOptions(**PLAIN)).from_prompts(request_of(cues))
    assert same(made.pictures, diffusion.render(["a * city"] * 3, [1, 1, 2], cues, options=options))
    assert bool((made.masks == 1).all())


@pytest.mark.parametrize("options", [{"cross_fraction": 1.0}, {"self_fraction": 1.0}, {"strength": 0.4}])
def test_injection_changes_an_edit_and_not_its_source(diffusion, cues, options):
    plain = Editor(diffusion, QUICK, EditOptions(**PLAIN)).from_prompts(request_of(cues))
    made = Editor(diffusion, QUICK, EditOptions(**PLAIN | options)).from_prompts(request_of(cues))
    assert not np.array_equal(made.pictures, plain.pictures) and np.array_equal(made.sources, plain.sources)


@pytest.mark.parametrize("of_photos", [False, True])
def test_an_edit_is_the_same_alone_and_in_a_batch(diffusion, cues, of_photos):
    editor, request = Editor(diffusion, QUICK, EditOptions(inversion="virtual")), request_of(cues)
    photos = Photos(photos_of(), ["a", "b"], [0, 1, 0])

    def made_of(part: EditRequest, photo_of: list[int]) -> EditResult:
        if not of_photos:
            return editor.from_prompts(part)
        return editor.from_photos(part, Photos(photos.pixels, photos.keys, photo_of), InversionCache())

    batch = made_of(request, [0, 1, 0])
    for index in range(3):
        alone = made_of(single(request, index), [photos.photo_of[index]])
        assert same(alone.pictures[0], batch.pictures[index]) and np.array_equal(alone.masks[0], batch.masks[index])


def test_edits_of_one_source_share_its_predictions(diffusion, cues, monkeypatch):
    sizes, predict, options = [], diffusion.predict, RenderOptions(steps=QUICK.steps, guidance=4, scheduler="ddim")
    monkeypatch.setattr(Diffusion, "predict", lambda _, noisy, *rest: sizes.append(len(noisy)) or predict(noisy, *rest))
    Editor(diffusion, options, EditOptions()).from_prompts(request_of(cues))
    assert sizes == [2 * 2 + 2 * 3] * QUICK.steps
    sizes.clear()
    inversions, photos = InversionCache(), Photos(photos_of(), ["a", "b"], [0, 0, 1])
    for _ in range(2):
        Editor(diffusion, QUICK, EditOptions(inversion="direct")).from_photos(request_of(cues), photos, inversions)
    assert sizes == [2] * QUICK.steps + [2 + 2 * 3] * 2 * QUICK.steps


def test_an_edit_equals_its_source_outside_its_mask(diffusion, cues):
    made = Editor(diffusion, QUICK, EditOptions(blend_from=0, threshold=0.8)).from_prompts(request_of(cues))
    assert 0 < made.masks.mean() < 1 and set(np.unique(made.masks)) == {0, 1}
    inside = np.kron(made.masks, np.ones((1, 8, 8))) > 0
    changed = np.abs(made.pictures.astype(float) - made.sources).mean(-1)
    assert changed[~inside].mean() < changed[inside].mean() / 2


@WHATEVER_MODEL
@pytest.mark.parametrize("inversion", ["direct", "virtual"])
def test_a_users_mask_limits_an_edit(diffusion, cues, inversion):
    masks = np.zeros((3, SIZE, SIZE), np.float32)
    masks[0, :, : SIZE // 2], masks[1] = 1, 1
    options = EditOptions(inversion=inversion, blend_from=0)
    photos = Photos(photos_of(), ["a", "b"], [0, 0, 1], masks)
    sampling = RenderOptions(steps=5, guidance=4)  # after fewer steps an edit with a random model has hardly begun
    made = Editor(diffusion, sampling, options).from_photos(request_of(cues), photos, InversionCache())
    assert np.array_equal(np.kron(made.masks, np.ones((1, 8, 8))), masks)
    assert same(made.pictures[2], made.sources[2]) and distance(made.pictures[1], made.sources[1]) > 1
    left, right = (slice(None, SIZE // 2), slice(SIZE // 2, None))
    assert distance(made.pictures[0, :, right], made.sources[0, :, right]) < distance(
        made.pictures[0, :, left], made.sources[0, :, left]
    )


def test_photos_of_any_shape_are_rebuilt_from_their_latents(diffusion, cues):
    pixels = photos_of(2, 48, 96)
    made = Editor(diffusion, QUICK, EditOptions()).from_photos(
        request_of(cues), Photos(pixels, ["a", "b"], [1, 0, 1]), InversionCache()
    )
    assert made.pictures.shape == (3, 48, 96, 3) and made.masks.shape == (3, 6, 12)
    with torch.inference_mode():
        clean = diffusion.encode_images(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
        assert same(made.sources, diffusion.decode(clean)[[1, 0, 1]])


@WHATEVER_MODEL
def test_seeds_matter_under_virtual_inversion_alone(diffusion, cues):
    def made_with(inversion: str, seed: int) -> np.ndarray:
        editor = Editor(diffusion, QUICK, EditOptions(inversion=inversion))
        photos = Photos(photos_of(1), ["a"], [0, 0, 0])
        return editor.from_photos(request_of(cues, (seed,) * 3), photos, InversionCache()).pictures

    assert np.array_equal(made_with("direct", 1), made_with("direct", 2))
    assert not np.array_equal(made_with("virtual", 1), made_with("virtual", 2))
    assert np.array_equal(made_with("virtual", 1), made_with("virtual", 1))


def test_an_edit_of_a_photo_that_says_nothing_gives_the_photo_back(diffusion):
    request = request_of(None, prompts=["a city"] * 3)
    photos = Photos(photos_of(), ["a", "b"], [0, 1, 1])
    made, changed = (
        Editor(diffusion, QUICK, EditOptions(preserve="none", **options)).from_photos(request, photos, InversionCache())
        for options in ({"guide_from": "source"}, {})
    )
    assert same(made.pictures, made.sources) and not same(changed.pictures, changed.sources)


@WHATEVER_MODEL
def test_edits_are_led_from_the_source_under_virtual_inversion_alone(diffusion, cues):
    photos, request = Photos(photos_of(1), ["a"], [0] * 3), request_of(cues)
    made = [
        Editor(diffusion, QUICK, EditOptions(inversion=inversion, **options)).from_photos(
            request, photos, InversionCache()
        )
        for inversion in ("direct", "virtual")
        for options in ({"guide_from": "source"}, {}, {"guide_from": "source", "cue_guidance": 3.0})
    ]
    assert same(made[0].pictures, made[1].pictures) and same(made[0].pictures, made[2].pictures)
    assert not any(np.array_equal(made[3].pictures, other.pictures) for other in made[4:])


@WHATEVER_MODEL
def test_a_negative_prompt_is_what_guidance_leads_from(diffusion, cues):
    photos, request = Photos(photos_of(1), ["a"], [0] * 3), request_of(cues, negative_prompts=["dark", "", "dark"])
    led, empty = (
        Editor(diffusion, QUICK, EditOptions(**options)).from_photos(request, photos, InversionCache()).pictures
        for options in ({"guide_from": "source"}, {})
    )
    assert [same(*both) for both in zip(led, empty, strict=True)] == [True, False, True]


def test_reweighting_changes_an_edit(diffusion, cues):
    def made_with(**reweight: float) -> np.ndarray:
        return Editor(diffusion, QUICK, EditOptions(reweight=reweight)).from_prompts(request_of(cues)).pictures

    assert np.array_equal(made_with(city=1.0), made_with())
    assert not same(made_with(city=3.0), made_with())
    with pytest.raises(BadItem, match=r"the prompt 'a \* city' does not contain 'forest'") as error:
        made_with(forest=2.0)
    assert error.value.key == "edit.reweight"


def test_words_in_place_of_cues_give_the_same_edit(diffusion, cues):
    cued = Editor(diffusion, QUICK, EditOptions()).from_prompts(request_of(cues))
    in_words = Editor(diffusion, QUICK, EditOptions()).from_prompts(
        request_of(None, prompts=["a fire city", "a rain city", "a dark city"])
    )
    assert same(cued.pictures, in_words.pictures)


def test_half_precision_gives_pictures(sd15_folder):
    half = load_diffusion(sd15_folder, dtype=torch.bfloat16)
    cues = torch.stack([half.word_embeddings([word]).float() for word in ("fire", "rain", "dark")])
    for inversion in ("direct", "virtual"):
        editor = Editor(half, QUICK, EditOptions(inversion=inversion))
        for made in (
            editor.from_prompts(request_of(cues)),
            editor.from_photos(request_of(cues), Photos(photos_of(), ["a", "b"], [0, 1, 1]), InversionCache()),
        ):
            assert made.pictures.shape == (3, SIZE, SIZE, 3) and made.pictures.std() > 5


def test_an_edit_leaves_the_model_unchanged_even_if_it_fails(diffusion, cues):
    before = diffusion.render(["a city"], [3], options=QUICK)
    processors = diffusion.pipeline.unet.attn_processors
    Editor(diffusion, QUICK, EditOptions()).from_prompts(request_of(cues))
    with pytest.raises(BadItem, match="too small to locate a cue"):
        Editor(diffusion, QUICK, EditOptions(mask="attention")).from_prompts(request_of(cues))
    assert diffusion.pipeline.unet.attn_processors == processors
    assert np.array_equal(diffusion.render(["a city"], [3], options=QUICK), before)


@pytest.fixture(scope="module")
def tiny_request() -> EditRequest:
    """Edits for the judge, with words in place of cues."""
    names = ["fire", "waterfall", "clock", "helicopter"]
    places = ["city", "forest", "field", "desert"]
    return EditRequest(
        [f"a {place}" for place in places],
        [f"a {name} {place}" for name, place in zip(names, places, strict=True)],
        [11, 12, 13, 14],
        None,
        [""] * 4,
    )


def judge(pictures: np.ndarray, request: EditRequest) -> list[tuple[bool, bool]]:
    """Whether the judge recognises phenomenon and background in each picture."""
    reading, found = load_judge().read(pictures), []
    for number, prompt in enumerate(request.prompts):
        words = prompt.split()
        name, place = (known.index(next(word for word in words if word in known)) for known in (PHENOMENA, BACKGROUNDS))
        found.append(
            (int(reading.phenomenon[number].argmax()) == name, int(reading.background[number].argmax()) == place)
        )
    return found


def decibels(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((first.astype(float) - second) ** 2).mean(-1)[where].mean()))


@pytest.fixture(scope="module")
def plain(tiny_request) -> EditResult:
    return Editor(load_world().diffusion, SHORT, EditOptions(**PLAIN)).from_prompts(tiny_request)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"cross_fraction": 0.8}, marks=pytest.mark.slow),
        pytest.param({"self_fraction": 0.8}, marks=pytest.mark.slow),
        {"preserve": "latents"},
        {"strength": 0.7},
    ],
)
def test_every_kind_of_injection_brings_an_edit_closer_to_its_source(tiny_request, plain, options):
    made = Editor(load_world().diffusion, SHORT, EditOptions(**PLAIN | options)).from_prompts(tiny_request)
    assert same(made.sources, plain.sources)
    assert distance(made.pictures, made.sources) < 0.97 * distance(plain.pictures, plain.sources)


@pytest.fixture(scope="module")
def drawn(tiny_request) -> np.ndarray:
    """The pictures of the prompts without a source."""
    return load_world().diffusion.render(tiny_request.prompts, tiny_request.seeds, options=LONG)


@pytest.mark.parametrize("mask", ["difference", pytest.param("attention", marks=pytest.mark.slow)])
def test_an_edit_shows_the_phenomenon_and_keeps_the_rest(tiny_request, drawn, mask):
    made = Editor(load_world().diffusion, LONG, EditOptions(mask=mask)).from_prompts(tiny_request)
    assert np.mean(judge(made.pictures, tiny_request)) >= 7 / 8
    outside = np.kron(made.masks, np.ones((1, 4, 4))) == 0
    assert decibels(made.pictures, made.sources, outside) > decibels(drawn, made.sources, outside) + 6


@pytest.mark.parametrize(
    ("options", "has_masks", "records"),
    [
        ({"mask": "difference"}, False, False),
        ({"mask": "attention"}, False, True),
        ({"mask": "attention", "preserve": "none"}, False, False),
        ({"mask": "attention"}, True, False),
    ],
)
def test_attention_maps_are_computed_for_attention_masks_alone(tiny_request, monkeypatch, options, has_masks, records):
    recorded, record_map = [], AttentionControl.record_map
    monkeypatch.setattr(
        AttentionControl, "record_map", lambda self, *rest: recorded.append(True) or record_map(self, *rest)
    )
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    photos = Photos(pixels, ["black"], [0] * 4, np.ones((4, 64, 64), np.float32) if has_masks else None)
    editor = Editor(load_world().diffusion, RenderOptions(steps=1, guidance=1), EditOptions(**options))
    editor.from_photos(tiny_request, photos, InversionCache())
    assert bool(recorded) == records


@pytest.mark.parametrize("inversion", [pytest.param("direct", marks=pytest.mark.slow), "virtual"])
def test_a_photo_is_edited(tiny_request, inversion):
    photos = paint(
        [Scene("background", None, prompt.split()[-1], 0.0, 5) for prompt in tiny_request.source_prompts]
    ).pixels
    editor = Editor(load_world().diffusion, LONG, EditOptions(inversion=inversion))
    made = editor.from_photos(tiny_request, Photos(photos, list(range(4)), list(range(4))), InversionCache())
    assert np.mean(judge(made.pictures, tiny_request)) >= 7 / 8
    assert decibels(made.sources, photos, np.ones(photos.shape[:3], bool)) > 26


def test_a_restyled_picture_keeps_its_layout(tiny_request):
    prompts = [f"{prompt} in the style of fire" for prompt in tiny_request.source_prompts]
    request = EditRequest(tiny_request.source_prompts, prompts, tiny_request.seeds, None, tiny_request.negative_prompts)
    made = Editor(load_world().diffusion, LONG, EditOptions(**STYLISED)).from_prompts(request)
    assert np.mean(judge(made.pictures, request)) >= 7 / 8
