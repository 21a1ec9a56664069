"""ImageReward with random weights under the names of the published checkpoint, against BLIP written out by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aai.errors import BadConfig
from aai.models.image_reward import ImageReward

DIM, WIDTH, INNER, LAYERS, SIDE, PATCH = 128, 32, 64, 2, 4, 8
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "rain", "fire"]
OPTIONS = {
    "vocab_size": 30522,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "encoder_width": DIM,
    "max_position_embeddings": 40,
}


def random_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    weights = {
        "blip.visual_encoder.cls_token": noise(1, 1, DIM),
        "blip.visual_encoder.pos_embed": noise(1, SIDE**2 + 1, DIM),
        "blip.visual_encoder.patch_embed.proj.weight": noise(DIM, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": noise(DIM),
        "blip.vision_proj.weight": noise(4, DIM),
        "blip.text_encoder.embeddings.word_embeddings.weight": noise(len(WORDS) + 2, WIDTH),
        "blip.text_encoder.embeddings.position_embeddings.weight": noise(40, WIDTH),
        "blip.text_encoder.embeddings.position_ids": torch.arange(40)[None],
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = noise(outputs, inputs), noise(outputs)

    def norm(name: str, dim: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + noise(dim), noise(dim)

    norm("blip.visual_encoder.norm", DIM)
    norm("blip.text_encoder.embeddings.LayerNorm", WIDTH)
    for number in range(LAYERS):
        block = f"blip.visual_encoder.blocks.{number}"
        for name, inputs, outputs in (("attn.qkv", DIM, 3 * DIM), ("attn.proj", DIM, DIM)):
            linear(f"{block}.{name}", inputs, outputs)
        linear(f"{block}.mlp.fc1", DIM, INNER)
        linear(f"{block}.mlp.fc2", INNER, DIM)
        norm(f"{block}.norm1", DIM)
        norm(f"{block}.norm2", DIM)
        layer = f"blip.text_encoder.encoder.layer.{number}"
        for part, source in (("attention", WIDTH), ("crossattention", DIM)):
            linear(f"{layer}.{part}.self.query", WIDTH, WIDTH)
            linear(f"{layer}.{part}.self.key", source, WIDTH)
            linear(f"{layer}.{part}.self.value", source, WIDTH)
            linear(f"{layer}.{part}.output.dense", WIDTH, WIDTH)
            norm(f"{layer}.{part}.output.LayerNorm", WIDTH)
        linear(f"{layer}.intermediate.dense", WIDTH, INNER)
        linear(f"{layer}.output.dense", INNER, WIDTH)
        norm(f"{layer}.output.LayerNorm", WIDTH)
    for number, (inputs, outputs) in {0: (WIDTH, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}.items():
        linear(f"mlp.layers.{number}", inputs, outputs)
    return weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image-reward")
    torch.save(random_weights(), path / "ImageReward.pt")
    (path / "med_config.json").write_text(json.dumps(OPTIONS))
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return path


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    parts = [each.unflatten(-1, (heads, -1)).transpose(0, 1) for each in (query, key, value)]
    scores = parts[0] @ parts[1].transpose(1, 2) / math.sqrt(parts[0].shape[-1])
    return (scores.softmax(-1) @ parts[2]).transpose(0, 1).flatten(1)


def by_hand(weights: dict[str, torch.Tensor], pixels: torch.Tensor, ids: list[int]) -> float:
    """The reward of one picture, without any library of models."""

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    eye = "blip.visual_encoder"
    patch = F.conv2d(
        pixels[None], weights[f"{eye}.patch_embed.proj.weight"], weights[f"{eye}.patch_embed.proj.bias"], PATCH
    )
    x = torch.cat([weights[f"{eye}.cls_token"][0], patch[0].flatten(1).T]) + weights[f"{eye}.pos_embed"][0]
    for number in range(LAYERS):
        block = f"{eye}.blocks.{number}"
        queries, keys, values = linear(norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1)
        x = x + linear(attend(queries, keys, values, DIM // 64), f"{block}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    seen = norm(x, f"{eye}.norm", 1e-6)
    text = "blip.text_encoder"
    t = weights[f"{text}.embeddings.word_embeddings.weight"][ids]
    t = norm(
        t + weights[f"{text}.embeddings.position_embeddings.weight"][: len(ids)], f"{text}.embeddings.LayerNorm", 1e-12
    )
    for number in range(LAYERS):
        layer = f"{text}.encoder.layer.{number}"
        for part, source in (("attention", None), ("crossattention", seen)):
            own = t if source is None else source
            query = linear(t, f"{layer}.{part}.self.query")
            heard = attend(query, linear(own, f"{layer}.{part}.self.key"), linear(own, f"{layer}.{part}.self.value"), 2)
            t = norm(t + linear(heard, f"{layer}.{part}.output.dense"), f"{layer}.{part}.output.LayerNorm", 1e-12)
        inner = linear(F.gelu(linear(t, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        t = norm(t + inner, f"{layer}.output.LayerNorm", 1e-12)
    reward = t[0]
    for number in (0, 2, 4, 6, 7):
        reward = linear(reward, f"mlp.layers.{number}")
    return (float(reward) - 0.16717362830052426) / 1.0333394966054072


def test_rewards_are_those_of_blip_by_hand_whatever_the_batch(folder):
    model, rng = ImageReward(folder), np.random.default_rng(1)
    pictures = [rng.integers(0, 256, size=(40, 32, 3), dtype=np.uint8) for _ in range(2)]
    prepared = torch.from_numpy(np.stack([model.prepare(picture) for picture in pictures]))
    found = model.score(prepared, ["a photo of rain", "a fire"]).tolist()
    ids = [[2, 5, 6, 7, 8, 3], [2, 5, 9, 3]]
    expected = [by_hand(random_weights(), pixels, own) for pixels, own in zip(prepared, ids, strict=True)]
    assert found == pytest.approx(expected, abs=1e-4) and abs(found[0] - found[1]) > 1e-3


def test_pictures_are_resized_cropped_and_normalised(folder):
    model = ImageReward(folder)
    plain = np.full((64, 100, 3), (255, 0, 128), np.uint8)
    prepared = model.prepare(plain)
    assert prepared.shape == (3, SIDE * PATCH, SIDE * PATCH)
    assert prepared[:, 5, 5] == pytest.approx(
        [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258, 0.3394], abs=1e-3
    )


def test_a_prompt_that_is_longer_than_the_context_does_not_fit(folder):
    model = ImageReward(folder)
    assert model.fits("a photo of rain") and not model.fits("rain " * 34)


@pytest.mark.parametrize("name", ["ImageReward.pt", "med_config.json", "vocab.txt"])
def test_a_folder_without_a_file_is_named(folder, tmp_path, name):
    for path in folder.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadConfig) as error:
        ImageReward(tmp_path)
    assert (error.value.key, error.value.uri) == ("models.image_reward", str(tmp_path))


def test_weights_that_do_not_fit_the_configuration_are_an_error(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "med_config.json").write_text(json.dumps(OPTIONS | {"num_hidden_layers": LAYERS + 1}))
    with pytest.raises(BadConfig, match="do not match") as error:
        ImageReward(tmp_path)
    assert error.value.key == "models.image_reward"
