"""Joint encoders give the vectors of transformers for sounds, stills and captions, in any batch."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from torch import Tensor
from transformers import CLIPConfig

from aai.errors import BadConfig, BadItem
from aai.media.audio import resample
from aai.models.folders import check_folders
from aai.models.joint import JointEncoder, load_joint
from tests.models.joint_encoders import GEMMA_DIM, HAS_TIMM, LibraryGemma, LibraryPeAv, write_gemma, write_pe_av

KINDS = [
    "gemma",
    pytest.param("pe_av", marks=pytest.mark.skipif(not HAS_TIMM, reason="it needs timm: make joint")),
]
DURATIONS_S = (0.05, 0.7, 0.7, 1.3)
SHAPES = ((40, 60), (64, 31), (40, 60), (33, 33))
TEXTS = ["fire", "a rooster at dawn", "rain on a tin roof"]
FROM_HZ = 22_050


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        write = {"gemma": write_gemma, "pe_av": write_pe_av}[kind]
        return made.get(kind) or made.setdefault(kind, write(tmp_path_factory.mktemp("joint") / kind))

    return folder_of


@pytest.fixture(scope="module", params=KINDS)
def folder(request, folders) -> Path:
    return folders(request.param)


@pytest.fixture(scope="module")
def encoder(folder) -> JointEncoder:
    return load_joint(folder)


@pytest.fixture(scope="module")
def library(folder) -> LibraryGemma | LibraryPeAv:
    return {"gemma": LibraryGemma, "pe_av": LibraryPeAv}[folder.name](folder)


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    times = [np.arange(round(FROM_HZ * duration_s)) / FROM_HZ for duration_s in DURATIONS_S]
    tones = [np.sin(2 * np.pi * 150 * 3**index * time) for index, time in enumerate(times)]
    return [(0.3 * tone + rng.normal(0, 0.05, len(tone))).astype(np.float32) for tone in tones]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 255, (len(SHAPES), 1, 1, 3))
    noise = [rng.integers(-60, 60, (*shape, 3)) for shape in SHAPES]
    return [(colour + each).clip(0, 255).astype(np.uint8) for colour, each in zip(colours, noise, strict=True)]


def assert_same(own: Tensor, expected: Sequence[Tensor]) -> None:
    """Each vector is that of its own item, and not nearly that of the others, which random networks easily give."""
    wanted = torch.stack(list(expected))
    assert own.dtype == torch.float32 and torch.allclose(own.norm(dim=1), torch.ones(len(own)), atol=1e-5)
    assert (own * wanted).sum(1).min() >= 0.9999
    centred, others = (torch.nn.functional.normalize(each - wanted.mean(0), dim=1) for each in (own, wanted))
    cosines = centred @ others.T
    assert cosines.diagonal().min() >= 0.999, cosines
    assert (cosines - 2 * torch.eye(len(own))).max() < 0.95, "vectors of different items must differ"


def test_sounds_have_the_vectors_of_the_library(encoder, library, waves):
    own_hz = encoder.sounds.rate_hz
    assert_same(encoder.sounds.embed_clips(waves, FROM_HZ), [library.clip(resample(w, FROM_HZ, own_hz)) for w in waves])


def test_stills_have_the_vectors_of_the_library(encoder, library, images):
    assert_same(encoder.images.embed_images(images), [library.image(image) for image in images])


def test_captions_have_the_vectors_of_the_library(encoder, library):
    """PE-AV has a head for captions of sounds, and another for those of images."""
    of_sound = getattr(library, "caption_of_sound", None) or library.caption
    of_image = getattr(library, "caption_of_image", None) or library.caption
    assert_same(encoder.sounds.embed_texts(TEXTS), [of_sound(text) for text in TEXTS])
    assert_same(encoder.images.embed_texts(TEXTS), [of_image(text) for text in TEXTS])


def test_all_vectors_are_in_one_space(encoder, waves, images):
    assert encoder.sounds.dim == encoder.images.dim == encoder.images.embed_images(images[:1]).shape[1]
    assert encoder.sounds.embed_clips(waves[:1], FROM_HZ).shape == (1, encoder.sounds.dim)
    assert encoder.sounds.embed_clips([], FROM_HZ).shape == (0, encoder.sounds.dim)
    assert encoder.images.embed_images([]).shape == encoder.images.embed_texts([]).shape == (0, encoder.images.dim)


def test_a_vector_does_not_depend_on_the_others_of_its_batch(encoder, waves, images):
    for embed, items in (
        (lambda some, **how: encoder.sounds.embed_clips(some, FROM_HZ, **how), waves),
        (encoder.images.embed_images, images),
        (encoder.images.embed_texts, TEXTS),
        (encoder.sounds.embed_texts, TEXTS),
    ):
        together = embed(items)
        torch.testing.assert_close(embed(items[::-1], batch_size=2).flip(0), together, atol=2e-5, rtol=0)
        torch.testing.assert_close(torch.cat([embed([item]) for item in items]), together, atol=2e-5, rtol=0)


def test_bfloat16_stays_close_to_float32(encoder, folder, waves, images):
    half = load_joint(folder, dtype=torch.bfloat16)
    for own, other in (
        (encoder.sounds.embed_clips(waves, FROM_HZ), half.sounds.embed_clips(waves, FROM_HZ)),
        (encoder.images.embed_images(images), half.images.embed_images(images)),
        (encoder.images.embed_texts(TEXTS), half.images.embed_texts(TEXTS)),
    ):
        assert other.dtype == torch.float32 and (own * other).sum(1).min() > 0.98


def test_a_caption_longer_than_the_context_is_an_error(encoder):
    for side in (encoder.sounds, encoder.images):
        assert side.fault_of("fire") is None and "shorten it" in side.fault_of("fire " * 500).sentence
        with pytest.raises(BadItem, match="shorten it"):
            side.embed_texts(["fire", "fire " * 500])


def test_a_clip_without_samples_is_an_error(encoder):
    with pytest.raises(ValueError, match="empty"):
        encoder.sounds.prepare(np.empty(0, np.float32), FROM_HZ)


def test_a_model_without_safetensors_is_an_error(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    with pytest.raises(BadConfig) as error:
        load_joint(copy)
    assert error.value.uri == str(copy)


def test_a_model_that_does_not_hear_is_an_error(tmp_path):
    CLIPConfig().save_pretrained(tmp_path)
    with pytest.raises(BadConfig, match="type clip, not pe_audio_video or embedding_gemma2") as error:
        load_joint(tmp_path)
    assert error.value.uri == str(tmp_path)


def test_embedding_gemma_needs_both_towers_and_no_float16(folders, tmp_path):
    with pytest.raises(BadConfig) as error:
        load_joint(folders("gemma"), dtype=torch.float16)
    assert error.value.key == "models.dtype"
    copy = Path(shutil.copytree(folders("gemma"), tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"audio_config": None}))
    with pytest.raises(BadConfig, match="no tower for sound") as error:
        load_joint(copy)
    assert error.value.uri == str(copy)


@pytest.mark.skipif(not HAS_TIMM, reason="it needs timm: make joint")
def test_a_checkpoint_for_16_frames_is_an_error(tmp_path):
    with pytest.raises(BadConfig, match="videos of 16 frames, which takes no stills") as error:
        load_joint(write_pe_av(tmp_path, num_frames=16))
    assert error.value.uri == str(tmp_path)


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed")
def test_without_timm_pe_av_says_what_to_install_before_anything_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "pe_audio_video"}')
    for remedy, key, check in (
        ("name EmbeddingGemma 2", None, load_joint),
        ("set align.method to labels", "models.joint", lambda folder: check_folders({"joint": folder})),
        ("name EmbeddingGemma 2", "models.audio_judge", lambda folder: check_folders({"audio_judge": folder})),
    ):
        with pytest.raises(BadConfig, match=f"timm: pip install timm torchvision, or {remedy}, which") as error:
            check(tmp_path)
        assert (error.value.key, error.value.uri) == (key, str(tmp_path))


def test_a_shipped_mapper_must_fit_the_joint_encoders_space(folders, tmp_path):
    (tmp_path / "config.json").write_text('{"image_dim": 128, "token_dim": 128}')
    (tmp_path / "model.safetensors").write_bytes(save({"weight": np.zeros(1, np.float32)}))
    with pytest.raises(BadConfig, match=f"its image_dim is 128, but models.joint has {GEMMA_DIM}") as error:
        check_folders({"joint": folders("gemma"), "mapper": tmp_path})
    assert error.value.key == "models.mapper"
