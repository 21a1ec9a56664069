"""Embeddings equal those of transformers, in any batch."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from aai.errors import BadConfig, BadItem
from aai.models.clip import ImageTextEncoder
from aai.models.revisions import resolve_revision
from aai.tiny.training.tokenizer import MAX_TOKENS, make_tokenizer

DIM = 24
TEXTS = ["fire", "a photo of strong rain in a city at night", "snow " * (MAX_TOKENS - 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small ViT with random weights; the processor differs from the real checkpoints' in its size alone."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    tower = {"num_attention_heads": 4, "intermediate_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    end = tokenizer.eos_token_id
    ids = {"vocab_size": len(tokenizer), "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text = tower | ids | {"max_position_embeddings": MAX_TOKENS}
    vision = tower | {"image_size": 32, "patch_size": 8}
    path = tmp_path_factory.mktemp("models") / "small-clip"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIM)).save_pretrained(path)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder) -> ImageTextEncoder:
    return ImageTextEncoder(folder)


def draw(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


IMAGES = [draw(32, 32), draw(100, 40, 1), draw(33, 200, 2), draw(3, 50, 3), draw(5, 3, 4)]


def test_image_embeddings_equal_the_librarys(folder, encoder):
    """The reference gets Pillow images: of arrays three pixels high it would infer the wrong channel order."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        inputs = processor(images=[Image.fromarray(image) for image in IMAGES], return_tensors="pt")
        expected = F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1)
    assert torch.allclose(encoder.embed_images(IMAGES), expected, atol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 0.01  # the images differ


def test_patches_have_the_librarys_hidden_states_row_by_row(folder, encoder):
    images = np.random.default_rng(1).integers(0, 256, size=(2, 32, 32, 3), dtype=np.uint8)
    prepared = torch.from_numpy(np.stack([encoder.prepare(image) for image in images]))
    patches = encoder.embed_patches(prepared)
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        inputs = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        states = model.vision_model(pixel_values=inputs["pixel_values"], output_hidden_states=True).hidden_states
    assert patches.shape == (2, 2, 16, 32) and encoder.side_px == 32  # two blocks, 4 x 4 patches
    assert torch.allclose(patches, torch.stack(states[1:], dim=1)[:, :, 1:], atol=1e-5)
    assert torch.allclose(encoder.embed_patches(prepared[:1]), patches[:1], atol=1e-5)


def test_text_embeddings_equal_the_librarys(folder, encoder):
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(text=TEXTS, padding="max_length", return_tensors="pt")
        expected = F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    assert torch.allclose(encoder.embed_texts(TEXTS), expected, atol=1e-6)


def test_a_text_longer_than_the_context_is_an_error_and_never_cut_off(encoder):
    long = "snow " * (MAX_TOKENS - 1)
    with pytest.raises(BadItem, match="the caption 'snow snow .* …' has 23 tokens, .* reads 22: shorten it"):
        encoder.embed_texts(["fire", long])
    assert encoder.fault_of(long) and encoder.fault_of(TEXTS[2]) is None


def test_embeddings_are_unit_vectors_on_the_cpu(encoder):
    for vectors, num in ((encoder.embed_images(IMAGES), 5), (encoder.embed_texts(TEXTS), 3)):
        assert vectors.shape == (num, DIM) and vectors.dtype == torch.float32 and vectors.device.type == "cpu"
        assert torch.allclose(vectors.norm(dim=1), torch.ones(num), atol=1e-6)
    assert encoder.dim == DIM


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_an_embedding_is_the_same_in_any_batch(encoder, batch_size):
    images, texts = encoder.embed_images(IMAGES, batch_size), encoder.embed_texts(TEXTS, batch_size)
    for i, image in enumerate(IMAGES):
        assert torch.allclose(encoder.embed_images([image])[0], images[i], atol=1e-6)
    for i, text in enumerate(TEXTS):
        assert torch.allclose(encoder.embed_texts([text])[0], texts[i], atol=1e-6)


def test_an_array_of_images_is_a_list_of_them(encoder):
    images = np.stack([draw(40, 30, seed) for seed in range(3)])
    assert torch.equal(encoder.embed_images(images), encoder.embed_images(list(images)))


def test_empty_input_gives_no_vectors(encoder):
    assert encoder.embed_images([]).shape == (0, DIM)
    assert encoder.embed_texts([]).shape == (0, DIM)


def test_half_precision_gives_similar_vectors_in_float32(folder, encoder):
    rough = ImageTextEncoder(folder, dtype=torch.bfloat16)
    for vectors, expected in (
        (rough.embed_images(IMAGES), encoder.embed_images(IMAGES)),
        (rough.embed_texts(TEXTS), encoder.embed_texts(TEXTS)),
    ):
        assert vectors.dtype == torch.float32
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-6)
        assert (vectors * expected).sum(dim=1).min() > 0.99


def test_the_model_is_frozen(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_folder_is_identified_by_its_name_and_a_digest(folder, encoder):
    assert (encoder.name, encoder.revision) == resolve_revision(folder, None)


def test_a_missing_processor_is_named(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "processor_config.json").unlink()
    with pytest.raises(BadConfig, match="no CLIPProcessor") as error:
        ImageTextEncoder(bare)
    assert error.value.uri == str(bare)
