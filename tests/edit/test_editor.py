"""Edits keep what they are made from: on pipelines of Stable Diffusion's and SDXL's shape, and seen by the judge."""

import numpy as np
import pytest
import torch

from aai.edit.editor import Edited, Editor, Photos, Wanted
from aai.edit.options import STYLISED, EditOptions
from aai.edit.trajectories import Inversions
from aai.errors import BadItem
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene
from aai.tiny.scenes import render as paint
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA
from aai.tiny.world import load_world
from tests.models.shrunk import SIZE

QUICK = RenderOptions(steps=5, guidance=4)
SHORT = RenderOptions(steps=6, guidance=4)
PLAIN = {"cross_fraction": 0.0, "self_fraction": 0.0, "preserve": "none"}
SAMPLERS = [None, "ddim", "dpm++2m", "euler-a"]


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def diffusion(request) -> Diffusion:
    return load_diffusion(request.getfixturevalue(f"{request.param}_folder"))


@pytest.fixture
def cues(diffusion) -> torch.Tensor:
    return torch.stack([diffusion.word_embeddings([word]) for word in ("fire", "rain", "dark")])


def wanted(cues: torch.Tensor | None, seeds: tuple[int, ...] = (1, 1, 2), **texts: list[str]) -> Wanted:
    """Three edits of two sources."""
    texts = {"source_prompts": ["a city"] * 3, "prompts": ["a * city"] * 3, "negative_prompts": [""] * 3} | texts
    return Wanted(seeds=list(seeds), cues=cues, **texts)


def one_of(asked: Wanted, at: int) -> Wanted:
    parts = ([each[at]] for each in (asked.source_prompts, asked.prompts, asked.seeds))
    return Wanted(*parts, asked.cues[at : at + 1], [asked.negative_prompts[at]])


def photos_of(num: int = 2, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Smooth ones: what is fine in a photo is no matter here."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    parts = [np.stack([down, across, np.sin(9 * down * (number + 1))], axis=-1) for number in range(num)]
    return (np.stack(parts) * 127 + 64).clip(0, 255).astype(np.uint8)


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal but where a last digit decides between two levels."""
    return np.abs(first.astype(float) - second).max() <= 1 and apart(first, second) < 1e-3 * 255


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_source_is_the_picture_that_is_rendered_without_an_edit(diffusion, cues, sampler):
    options = RenderOptions(steps=5, guidance=4, scheduler=sampler)
    negatives = ["", "dark", "the style"]
    made = Editor(diffusion, options, EditOptions()).from_prompts(wanted(cues, negative_prompts=negatives))
    assert same(made.sources, diffusion.render(["a city"] * 3, [1, 1, 2], None, negatives, options))
    assert apart(made.sources[0], made.sources[2]) > 5


@pytest.mark.parametrize("guidance", [1, 4])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_edit_that_shares_nothing_is_the_picture_of_its_prompt(diffusion, cues, sampler, guidance):
    options = RenderOptions(steps=5, guidance=guidance, scheduler=sampler)
    made = Editor(diffusion, options, EditOptions(**PLAIN)).from_prompts(wanted(cues))
    assert same(made.pictures, diffusion.render(["a * city"] * 3, [1, 1, 2], cues, options=options))
    assert bool((made.masks == 1).all())


@pytest.mark.parametrize("shares", [{"cross_fraction": 1.0}, {"self_fraction": 1.0}, {"strength": 0.4}])
def test_what_an_edit_shares_changes_it(diffusion, cues, shares):
    plain = Editor(diffusion, QUICK, EditOptions(**PLAIN)).from_prompts(wanted(cues))
    made = Editor(diffusion, QUICK, EditOptions(**PLAIN | shares)).from_prompts(wanted(cues))
    assert not np.array_equal(made.pictures, plain.pictures) and np.array_equal(made.sources, plain.sources)


@pytest.mark.parametrize("of_photos", [False, True])
def test_an_edit_is_the_same_alone_and_among_others(diffusion, cues, of_photos):
    editor, asked = Editor(diffusion, QUICK, EditOptions(inversion="virtual")), wanted(cues)
    photos = Photos(photos_of(), ["a", "b"], [0, 1, 0])

    def made_of(part: Wanted, photo_of: list[int]) -> Edited:
        if not of_photos:
            return editor.from_prompts(part)
        return editor.from_photos(part, Photos(photos.pixels, photos.keys, photo_of), Inversions())

    together = made_of(asked, [0, 1, 0])
    for at in range(3):
        alone = made_of(one_of(asked, at), [photos.photo_of[at]])
        assert same(alone.pictures[0], together.pictures[at]) and np.array_equal(alone.masks[0], together.masks[at])


def test_a_source_goes_through_the_model_once_for_all_its_edits(diffusion, cues, monkeypatch):
    sizes, predict, options = [], diffusion.predict, RenderOptions(steps=5, guidance=4, scheduler="ddim")
    monkeypatch.setattr(Diffusion, "predict", lambda _, noisy, *rest: sizes.append(len(noisy)) or predict(noisy, *rest))
    Editor(diffusion, options, EditOptions()).from_prompts(wanted(cues))
    assert sizes == [2 * 2 + 2 * 3] * 5
    sizes.clear()
    inversions, photos = Inversions(), Photos(photos_of(), ["a", "b"], [0, 0, 1])
    for _ in range(2):
        Editor(diffusion, QUICK, EditOptions(inversion="direct")).from_photos(wanted(cues), photos, inversions)
    assert sizes == [2] * 5 + [2 + 2 * 3] * 10


def test_outside_its_mask_an_edit_is_its_source(diffusion, cues):
    made = Editor(diffusion, QUICK, EditOptions(blend_from=0, threshold=0.8)).from_prompts(wanted(cues))
    assert 0 < made.masks.mean() < 1 and set(np.unique(made.masks)) == {0, 1}
    inside = np.kron(made.masks, np.ones((1, 8, 8))) > 0
    changed = np.abs(made.pictures.astype(float) - made.sources).mean(-1)
    assert changed[~inside].mean() < changed[inside].mean() / 2


@pytest.mark.parametrize("inversion", ["direct", "virtual"])
def test_a_given_mask_says_where_an_edit_is(diffusion, cues, inversion):
    masks = np.zeros((3, SIZE, SIZE), np.float32)
    masks[0, :, : SIZE // 2], masks[1] = 1, 1
    options = EditOptions(inversion=inversion, blend_from=0)
    photos = Photos(photos_of(), ["a", "b"], [0, 0, 1], masks)
    made = Editor(diffusion, QUICK, options).from_photos(wanted(cues), photos, Inversions())
    assert np.array_equal(np.kron(made.masks, np.ones((1, 8, 8))), masks)
    assert same(made.pictures[2], made.sources[2]) and apart(made.pictures[1], made.sources[1]) > 1
    left, right = (slice(None, SIZE // 2), slice(SIZE // 2, None))
    assert apart(made.pictures[0, :, right], made.sources[0, :, right]) < apart(
        made.pictures[0, :, left], made.sources[0, :, left]
    )


def test_photos_may_be_of_any_shape_and_come_back_through_the_latents(diffusion, cues):
    pixels = photos_of(2, 48, 96)
    made = Editor(diffusion, QUICK, EditOptions()).from_photos(
        wanted(cues), Photos(pixels, ["a", "b"], [1, 0, 1]), Inversions()
    )
    assert made.pictures.shape == (3, 48, 96, 3) and made.masks.shape == (3, 6, 12)
    with torch.inference_mode():
        clean = diffusion.encode_images(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
        assert same(made.sources, diffusion.decode(clean)[[1, 0, 1]])


def test_seeds_are_of_those_edits_that_draw_noise(diffusion, cues):
    def made_with(inversion: str, seed: int) -> np.ndarray:
        editor = Editor(diffusion, QUICK, EditOptions(inversion=inversion))
        photos = Photos(photos_of(1), ["a"], [0, 0, 0])
        return editor.from_photos(wanted(cues, (seed,) * 3), photos, Inversions()).pictures

    assert np.array_equal(made_with("direct", 1), made_with("direct", 2))
    assert not np.array_equal(made_with("virtual", 1), made_with("virtual", 2))
    assert np.array_equal(made_with("virtual", 1), made_with("virtual", 1))


def test_words_are_weighed(diffusion, cues):
    def made_with(**reweight: float) -> np.ndarray:
        return Editor(diffusion, QUICK, EditOptions(reweight=reweight)).from_prompts(wanted(cues)).pictures

    assert np.array_equal(made_with(city=1.0), made_with())
    assert not same(made_with(city=3.0), made_with())
    with pytest.raises(BadItem, match="prompt 'a \\* city': 'forest' is to be reweighted, but does not stand in it"):
        made_with(forest=2.0)


def test_words_may_stand_where_cues_do(diffusion, cues):
    cued = Editor(diffusion, QUICK, EditOptions()).from_prompts(wanted(cues))
    said = Editor(diffusion, QUICK, EditOptions()).from_prompts(
        wanted(None, prompts=["a fire city", "a rain city", "a dark city"])
    )
    assert same(cued.pictures, said.pictures)


def test_half_precision_will_do(sd15_folder):
    half = load_diffusion(sd15_folder, dtype=torch.bfloat16)
    cues = torch.stack([half.word_embeddings([word]).float() for word in ("fire", "rain", "dark")])
    for inversion in ("direct", "virtual"):
        editor = Editor(half, QUICK, EditOptions(inversion=inversion))
        for made in (
            editor.from_prompts(wanted(cues)),
            editor.from_photos(wanted(cues), Photos(photos_of(), ["a", "b"], [0, 1, 1]), Inversions()),
        ):
            assert made.pictures.shape == (3, SIZE, SIZE, 3) and made.pictures.std() > 5


def test_the_model_is_as_before_when_an_edit_is_made(diffusion, cues):
    before = diffusion.render(["a city"], [3], options=QUICK)
    processors = diffusion.pipeline.unet.attn_processors
    Editor(diffusion, QUICK, EditOptions()).from_prompts(wanted(cues))
    with pytest.raises(BadItem, match="too small to see .* where a cue acts"):
        Editor(diffusion, QUICK, EditOptions(mask="attention")).from_prompts(wanted(cues))
    assert diffusion.pipeline.unet.attn_processors == processors
    assert np.array_equal(diffusion.render(["a city"], [3], options=QUICK), before)


@pytest.fixture(scope="module")
def heard() -> Wanted:
    """What the judge is asked of: words stand for cues."""
    names = ["fire", "waterfall", "clock", "helicopter"]
    places = ["city", "forest", "field", "desert"]
    return Wanted(
        [f"a {place}" for place in places],
        [f"a {name} {place}" for name, place in zip(names, places, strict=True)],
        [11, 12, 13, 14],
        None,
        [""] * 4,
    )


def read(made: np.ndarray, asked: Wanted) -> list[tuple[bool, bool]]:
    """Whether phenomenon and place are seen in each picture."""
    reading, found = load_judge().read(made), []
    for number, prompt in enumerate(asked.prompts):
        words = prompt.split()
        name, place = (known.index(next(word for word in words if word in known)) for known in (PHENOMENA, BACKGROUNDS))
        found.append(
            (int(reading.phenomenon[number].argmax()) == name, int(reading.background[number].argmax()) == place)
        )
    return found


def decibels(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((first.astype(float) - second) ** 2).mean(-1)[where].mean()))


@pytest.fixture(scope="module")
def plain(heard) -> Edited:
    return Editor(load_world().diffusion, SHORT, EditOptions(**PLAIN)).from_prompts(heard)


@pytest.mark.parametrize(
    "shares", [{"cross_fraction": 0.8}, {"self_fraction": 0.8}, {"preserve": "latents"}, {"strength": 0.7}]
)
def test_whatever_an_edit_shares_brings_it_nearer_to_its_source(heard, plain, shares):
    made = Editor(load_world().diffusion, SHORT, EditOptions(**PLAIN | shares)).from_prompts(heard)
    assert same(made.sources, plain.sources)
    assert apart(made.pictures, made.sources) < 0.97 * apart(plain.pictures, plain.sources)


@pytest.mark.parametrize("mask", ["difference", "attention"])
def test_an_edit_shows_the_phenomenon_and_keeps_the_rest(heard, mask):
    options, diffusion = RenderOptions(steps=10, guidance=4), load_world().diffusion
    made = Editor(diffusion, options, EditOptions(mask=mask)).from_prompts(heard)
    assert np.mean(read(made.pictures, heard)) >= 7 / 8
    outside = np.kron(made.masks, np.ones((1, 4, 4))) == 0
    plain = diffusion.render(heard.prompts, heard.seeds, options=options)
    assert decibels(made.pictures, made.sources, outside) > decibels(plain, made.sources, outside) + 6


@pytest.mark.parametrize("inversion", ["direct", "virtual"])
def test_a_photo_is_edited(heard, inversion):
    photos = paint([Scene("background", None, prompt.split()[-1], 0.0, 5) for prompt in heard.source_prompts]).pixels
    editor = Editor(load_world().diffusion, RenderOptions(steps=10, guidance=4), EditOptions(inversion=inversion))
    made = editor.from_photos(heard, Photos(photos, list(range(4)), list(range(4))), Inversions())
    assert np.mean(read(made.pictures, heard)) >= 7 / 8
    assert decibels(made.sources, photos, np.ones(photos.shape[:3], bool)) > 26


def test_a_restyled_picture_keeps_its_layout(heard):
    prompts = [f"{prompt} in the style of fire" for prompt in heard.source_prompts]
    asked = Wanted(heard.source_prompts, prompts, heard.seeds, None, heard.negative_prompts)
    made = Editor(load_world().diffusion, RenderOptions(steps=10, guidance=4), EditOptions(**STYLISED)).from_prompts(
        asked
    )
    assert np.mean(read(made.pictures, asked)) >= 7 / 8
