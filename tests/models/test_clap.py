"""Embeddings equal those of transformers wherever these are not random, in any batch."""

import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

from aai.errors import BadConfig, BadItem
from aai.media.audio import resample
from aai.models.clap import AudioEncoder
from aai.models.revisions import resolve_revision

DIM, RATE_HZ, NUM_SAMPLES = 24, 48_000, 480_000
MAX_TOKENS = 20
TEXTS = ["fire", "the sound of rain", "snow" * 4]


def new_model(fused: bool, **sizes: object) -> ClapModel:
    """HTSAT and RoBERTa as in the real checkpoints, but small except for `sizes` of HTSAT; the input's batch norm has
    random statistics.
    """
    text = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS + 2,
    }
    audio = {
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [2, 2, 2, 2],
        "hidden_size": 128,
        "enable_fusion": fused,
        "fusion_type": "aff_2d" if fused else None,
    } | sizes
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=DIM))
    model.audio_model.audio_encoder.batch_norm.running_mean.normal_(-30, 5)
    model.audio_model.audio_encoder.batch_norm.running_var.uniform_(100, 300)
    return model


def new_processor(fused: bool) -> ClapProcessor:
    extractor = ClapFeatureExtractor(
        frequency_min=50, truncation="fusion" if fused else "rand_trunc", padding="repeatpad"
    )
    letters = [*string.ascii_lowercase, "Ġ"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, "<mask>"]
    tokenizer = RobertaTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    return ClapProcessor(extractor, tokenizer)


@pytest.fixture(scope="module", params=["unfused", "fused"])
def folder(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / f"small-clap-{request.param}"
    new_model(request.param == "fused").save_pretrained(path)
    new_processor(request.param == "fused").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder) -> AudioEncoder:
    return AudioEncoder(folder)


def chirp(duration_s: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """An intermittent rising tone."""
    rng, time_s = np.random.default_rng(seed), np.arange(round(duration_s * rate_hz)) / rate_hz
    angle = 2 * np.pi * (200 + 50 * seed + 150 * time_s) * time_s
    return (0.3 * np.sin(angle) * (np.sin(3 * time_s + rng.random()) > 0)).astype(np.float32)


WAVES = [chirp(3.3), chirp(10, seed=1), chirp(0.2, seed=2)]


def reference(folder, waves: list[np.ndarray]) -> torch.Tensor:
    """The library's embeddings, without the random clip that its extractor marks as longer."""
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    inputs = processor(audio=waves, sampling_rate=RATE_HZ, return_tensors="pt")
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    with torch.inference_mode():
        return model.get_audio_features(**inputs).pooler_output


def test_clip_embeddings_equal_the_librarys(folder, encoder):
    expected = reference(folder, WAVES)
    vectors = encoder.embed_clips(WAVES, RATE_HZ)
    assert (F.normalize(expected, dim=-1) * vectors).sum(dim=1).min() > 0.999999
    assert torch.allclose(vectors, expected, atol=2e-4), "the library transforms in float64"
    assert (expected[0] - expected[1]).abs().max() > 0.01  # the clips differ


def test_a_long_clip_is_cut_at_its_end(folder, encoder):
    long = chirp(13)
    vectors = encoder.embed_clips([long], RATE_HZ)
    assert torch.allclose(vectors, reference(folder, [long[:NUM_SAMPLES]]), atol=2e-4)
    assert torch.equal(encoder.embed_clips([long], RATE_HZ), vectors)


def test_an_embedding_is_the_same_in_any_batch(encoder):
    waves = [*WAVES, chirp(13, seed=3)]
    together = encoder.embed_clips(waves, RATE_HZ)
    assert torch.allclose(encoder.embed_clips(waves, RATE_HZ, batch_size=3), together, atol=1e-6)
    for i, wave in enumerate(waves):
        assert torch.allclose(encoder.embed_clips([wave], RATE_HZ)[0], together[i], atol=1e-6)
    texts = encoder.embed_texts(TEXTS)
    for i, text in enumerate(TEXTS):
        assert torch.allclose(encoder.embed_texts([text], batch_size=1)[0], texts[i], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_clips_of_another_rate_are_resampled(encoder, rate_hz):
    wave = chirp(3.3, rate_hz)
    vectors = encoder.embed_clips([wave], rate_hz)
    assert torch.equal(vectors, encoder.embed_clips([resample(wave, rate_hz, RATE_HZ)], RATE_HZ))
    assert not torch.allclose(vectors, encoder.embed_clips([wave], RATE_HZ), atol=1e-3)


def test_text_embeddings_equal_the_librarys(folder, encoder):
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    short = TEXTS[:2]
    with torch.inference_mode():
        expected = model.get_text_features(**processor(text=short, padding=True, return_tensors="pt")).pooler_output
    assert torch.allclose(encoder.embed_texts(short), expected, atol=1e-6)


def test_a_text_longer_than_the_context_is_an_error_and_never_cut_off(encoder):
    long = "snow" * 5
    with pytest.raises(BadItem, match=f"the caption '{long}' has 20 tokens, and the encoder reads 18: shorten it"):
        encoder.embed_texts(["snow", long])
    assert encoder.fault_of(long) and encoder.fault_of("snow" * 4) is None


def test_embeddings_are_unit_vectors_on_the_cpu(encoder):
    for vectors in (encoder.embed_clips(WAVES, RATE_HZ), encoder.embed_texts(TEXTS)):
        assert vectors.shape == (3, DIM) and vectors.dtype == torch.float32 and vectors.device.type == "cpu"
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-6)
    assert (encoder.dim, encoder.rate_hz, encoder.duration_s) == (DIM, RATE_HZ, 10)


def test_silence_and_full_scale_give_finite_vectors(encoder):
    waves = [np.zeros(RATE_HZ, dtype=np.float32), np.sign(chirp(1)), np.full(RATE_HZ, 1, dtype=np.float32)]
    assert torch.isfinite(encoder.embed_clips(waves, RATE_HZ)).all()


def test_half_precision_gives_similar_vectors_in_float32(folder, encoder):
    vectors = AudioEncoder(folder, dtype=torch.bfloat16).embed_clips(WAVES, RATE_HZ)
    assert vectors.dtype == torch.float32
    assert (vectors * encoder.embed_clips(WAVES, RATE_HZ)).sum(dim=1).min() > 0.98


def test_empty_input_gives_no_vectors_and_an_empty_clip_is_an_error(encoder):
    assert encoder.embed_clips([], RATE_HZ).shape == (0, DIM)
    assert encoder.embed_texts([]).shape == (0, DIM)
    with pytest.raises(ValueError, match="an empty wave"):
        encoder.embed_clips([np.zeros(0, dtype=np.float32)], RATE_HZ)


def test_the_model_is_frozen_and_identified_by_name_and_digest(folder, encoder):
    assert (encoder.name, encoder.revision) == resolve_revision(folder, None)
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_without_safetensors_tensors_are_read_from_a_bin_and_no_other_object(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    tensors = ClapModel.from_pretrained(folder).state_dict()
    torch.save(tensors, pickled / "pytorch_model.bin")
    texts = ["fire"]
    torch.testing.assert_close(AudioEncoder(pickled).embed_texts(texts), AudioEncoder(folder).embed_texts(texts))
    revision = AudioEncoder(pickled).revision
    torch.save({name: tensor * 2 for name, tensor in tensors.items()}, pickled / "pytorch_model.bin")
    assert AudioEncoder(pickled).revision != revision
    torch.save(tensors | {"trap": Trap()}, pickled / "pytorch_model.bin")
    with pytest.raises(BadConfig, match="no ClapModel"):
        AudioEncoder(pickled)
    assert not (tmp_path / "trapped").exists()
