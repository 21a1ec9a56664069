"""Embeddings are those of the library's own call, the same in any batch; what is no whole, pinned model is refused."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from aai.errors import BadConfig
from aai.models.clip import ImageTextEncoder
from aai.tiny.training.tokenizer import MAX_TOKENS, make_tokenizer

DIM = 24
TEXTS = ["fire", "a photo of strong rain in a city at night", "snow " * 60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small ViT with random weights, its processor's settings those of the real checkpoints but for the size."""
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


def test_images_are_embedded_as_by_the_library(folder, encoder):
    """The reference gets Pillow's images, of whose layout it is sure: of arrays three pixels high it is not."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        inputs = processor(images=[Image.fromarray(image) for image in IMAGES], return_tensors="pt")
        wanted = F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1)
    assert torch.allclose(encoder.embed_images(IMAGES), wanted, atol=1e-6)
    assert (wanted[0] - wanted[1]).abs().max() > 0.01  # images are told apart at all


def test_texts_are_embedded_as_by_the_library(folder, encoder):
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(text=TEXTS, padding="max_length", truncation=True, return_tensors="pt")
        wanted = F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
    assert torch.allclose(encoder.embed_texts(TEXTS), wanted, atol=1e-6)


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


def test_nothing_gives_nothing(encoder):
    assert encoder.embed_images([]).shape == (0, DIM)
    assert encoder.embed_texts([]).shape == (0, DIM)


def test_half_precision_gives_nearly_the_same_in_single(folder, encoder):
    rough = ImageTextEncoder(folder, dtype=torch.bfloat16)
    for found, wanted in (
        (rough.embed_images(IMAGES), encoder.embed_images(IMAGES)),
        (rough.embed_texts(TEXTS), encoder.embed_texts(TEXTS)),
    ):
        assert found.dtype == torch.float32
        assert torch.allclose(found.norm(dim=1), torch.ones(len(found)), atol=1e-6)
        assert (found * wanted).sum(dim=1).min() > 0.99


def test_the_model_is_frozen(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def copy_of(folder, target):
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_folder_is_known_by_its_name_and_contents_not_by_its_place(folder, encoder, tmp_path):
    moved = copy_of(folder, tmp_path / "elsewhere" / "small-clip")
    again = ImageTextEncoder(moved)
    assert (again.name, again.revision) == (encoder.name, encoder.revision)
    assert again.name == "small-clip"
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"logit_scale_init_value": 1.0}))
    assert ImageTextEncoder(moved).revision != encoder.revision


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "abc123"])
def test_a_model_on_the_hub_needs_a_whole_commit(revision):
    with pytest.raises(BadConfig, match="give the revision as a commit of 40 hex digits"):
        ImageTextEncoder("openai/clip-vit-base-patch32", revision)


def test_a_folder_has_no_revision(folder):
    with pytest.raises(BadConfig, match="a folder has no revision"):
        ImageTextEncoder(folder, "0" * 40)


def test_pickled_weights_are_never_read(folder, tmp_path):
    pickled = copy_of(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(CLIPModel.from_pretrained(folder).state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(BadConfig, match="no CLIPModel, with safetensors, can be loaded"):
        ImageTextEncoder(pickled)


def test_damaged_weights_and_a_missing_processor_are_named(folder, tmp_path):
    damaged = copy_of(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(BadConfig, match="no CLIPModel, with safetensors, can be loaded"):
        ImageTextEncoder(damaged)
    bare = copy_of(folder, tmp_path / "bare")
    (bare / "processor_config.json").unlink()
    with pytest.raises(BadConfig, match="no CLIPProcessor"):
        ImageTextEncoder(bare)


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    deeper = copy_of(folder, tmp_path / "deeper")
    config = json.loads((deeper / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (deeper / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadConfig, match=r"no whole CLIPModel: 16 parameters are missing: vision_model\.encoder"):
        ImageTextEncoder(deeper)
