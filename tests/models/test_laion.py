"""Checkpoints of LAION's package, shrunk: names and layout are the package's, whose own `make parity` compares."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ClapModel

from aai.errors import BadConfig
from aai.models.clap import AudioEncoder
from aai.models.folders import check_folders
from aai.models.laion import config_of, feature_extractor_of, read_checkpoint
from aai.models.revisions import resolve_revision
from tests.models.test_clap import DIM, RATE_HZ, WAVES, Trap, new_model, new_processor

UNDONE = [
    (r"^text_model\.", "text_branch."),
    (r"^audio_model\.audio_encoder\.", "audio_branch."),
    (r"_projection\.linear1\.", "_projection.0."),
    (r"_projection\.linear2\.", "_projection.2."),
    (r"\.batch_norm\.", ".bn0."),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"(audio_branch.*)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"(audio_branch.*)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"(audio_branch.*\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"(audio_branch.*)\.attention\.self\.", r"\1.attn."),
]


def package_weights(model: ClapModel) -> dict[str, torch.Tensor]:
    """A model's weights as the package names them, with those that have no part in embeddings."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        for pattern, other in UNDONE:
            name = re.sub(pattern, other, name)
        weights[name] = tensor
    for name in [name for name in weights if ".attn.query." in name]:
        parts = [weights.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        weights[name.replace("query", "qkv")] = torch.cat(parts)
    weights.pop("text_branch.embeddings.token_type_ids")
    weights["audio_branch.head.weight"] = torch.zeros(527, 527)
    weights["audio_branch.layers.0.blocks.0.attn_mask"] = torch.zeros(4, 64, 64)
    weights["audio_transform.sequential.0.weight"] = torch.zeros(DIM, DIM)
    weights["audio_branch.logmel_extractor.melW"] = torch.as_tensor(filters(50))
    return weights


def filters(frequency_min: int) -> np.ndarray:
    extractor = new_processor(fused=False).feature_extractor
    return type(extractor)(frequency_min=frequency_min).mel_filters_slaney.astype(np.float32)


def write(path: Path, weights: dict[str, torch.Tensor], **more) -> Path:
    """As the published ones: of a parallel model, with numbers of numpy beside the weights."""
    named = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"epoch": 15, "name": "CLAP", "acc": np.float64(0.9), "state_dict": named} | more, path)
    return path


@pytest.fixture(scope="module", params=["unfused", "fused"])
def pair(request, tmp_path_factory) -> tuple[Path, Path]:
    """A checkpoint, and a folder with the same model, with the settings of RoBERTa, and its processor."""
    torch.manual_seed(0)
    fused, path = request.param == "fused", tmp_path_factory.mktemp("laion")
    model = new_model(fused)
    model.config.text_config.layer_norm_eps = 1e-5
    model.config.text_config.num_attention_heads = 1  # of 64 dimensions in RoBERTa, and here of less
    model.save_pretrained(path / "folder")
    new_processor(fused).save_pretrained(path / "folder")
    new_processor(fused).tokenizer.save_pretrained(path)
    return write(path / "630k-best.pt", package_weights(model)), path / "folder"


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return package_weights(new_model(fused=False))


def test_a_checkpoint_gives_the_vectors_of_the_same_model_in_a_folder(pair):
    checkpoint, folder = (AudioEncoder(path) for path in pair)
    torch.testing.assert_close(checkpoint.embed_clips(WAVES, RATE_HZ), folder.embed_clips(WAVES, RATE_HZ))
    texts = ["fire", "the sound of rain"]
    torch.testing.assert_close(checkpoint.embed_texts(texts), folder.embed_texts(texts))
    assert (checkpoint.dim, checkpoint.rate_hz, checkpoint.duration_s) == (DIM, RATE_HZ, 10)


def test_the_configuration_follows_from_the_weights(pair):
    path, folder = pair
    wanted, found = ClapModel.from_pretrained(folder).config, config_of(read_checkpoint(path))
    for part, names in {
        "audio_config": ("depths", "num_attention_heads", "hidden_size", "patch_embeds_hidden_size", "enable_fusion"),
        "text_config": ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "layer_norm_eps"),
    }.items():
        for name in names:
            assert getattr(getattr(found, part), name) == getattr(getattr(wanted, part), name), name
    assert found.audio_config.window_size == 8 and found.audio_config.mlp_ratio == 4


def test_the_front_end_is_that_of_the_package(pair):
    extractor = feature_extractor_of(read_checkpoint(pair[0]), "it")
    is_fused = ClapModel.from_pretrained(pair[1]).config.audio_config.enable_fusion
    assert (extractor.frequency_min, extractor.frequency_max) == (50, 14_000)
    assert extractor.truncation == ("fusion" if is_fused else "rand_trunc"), "it selects the mel filters"
    assert (extractor.padding, extractor.nb_max_samples) == ("repeatpad", 480_000)


def test_a_checkpoint_is_identified_by_its_contents(pair, tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(pair[0].read_bytes())
    first = resolve_revision(path, None)
    assert first[0] == "best.pt" and re.fullmatch("[0-9a-f]{32}", first[1])
    path.write_bytes(pair[0].read_bytes() + b"more")
    assert resolve_revision(path, None)[1] != first[1]
    with pytest.raises(BadConfig, match="has no revision"):
        resolve_revision(path, "0" * 40)


def refused(path: Path) -> BadConfig:
    with pytest.raises(BadConfig) as error:
        AudioEncoder(path)
    assert error.value.uri == str(path)
    return error.value


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"audio_branch.norm.weight": None}, "it lacks weights, 'audio_branch.norm.weight' among them"),
        ({"audio_branch.norm.bias": None}, "1 of its weights are not those of such a model (audio_model.audio_enc"),
        ({"audio_projection.0.bias": torch.zeros(3)}, "audio_projection.linear1.bias has another size"),
        ({"audio_branch.more": torch.zeros(3)}, "audio_model.audio_encoder.more is unknown"),
        ({"audio_projection.0.bias": torch.full((DIM,), torch.nan)}, "audio_projection.linear1.bias is not finite"),
        ({"audio_branch.patch_embed.proj.weight": None}, "it holds a CLAP with another audio encoder"),
        ({"text_branch.embeddings.word_embeddings.weight": None}, "its text encoder is not RoBERTa"),
        ({"audio_branch.logmel_extractor.melW": torch.as_tensor(filters(0))}, "its mel filters are not those of 50"),
    ],
)
def test_another_model_or_a_damaged_one_is_refused(weights, tmp_path, change, sentence):
    changed = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
    error = refused(write(tmp_path / "wrong.pt", changed))
    assert sentence in error.sentence


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut"])
def test_a_file_that_is_none_is_refused_before_and_while_it_is_loaded(tmp_path, content):
    path = tmp_path / "wrong.pt"
    path.write_bytes(content)
    assert "it cannot be read" in refused(path).sentence
    with pytest.raises(BadConfig, match="no checkpoint of PyTorch, or cut short") as error:
        check_folders({"audio": path})
    assert (error.value.key, error.value.uri) == ("models.audio", str(path))


def test_nothing_in_a_checkpoint_is_run(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "it cannot be read" in refused(write(tmp_path / "trap.pt", weights, optimizer=Trap())).sentence
    assert not (tmp_path / "trapped").exists()
    torch.save([1, 2], tmp_path / "list.pt")
    assert "no CLAP model" in refused(tmp_path / "list.pt").sentence


def test_other_models_are_no_files_and_an_aligner_of_another_size_is_refused(pair, tmp_path):
    with pytest.raises(BadConfig, match="it is a file: name the model's folder"):
        check_folders({"image_text": pair[0]})
    (tmp_path / "config.json").write_text('{"audio_dim": 128, "image_dim": 512}')
    with pytest.raises(BadConfig, match="no weights|its audio_dim is 128, but models.audio has 512"):
        check_folders({"audio": pair[0], "aligner": tmp_path})


def test_without_a_tokenizer_beside_it_sounds_are_embedded_and_texts_say_what_is_missing(
    weights, tmp_path, monkeypatch
):
    def offline(*names, **options):
        raise OSError("offline")

    encoder = AudioEncoder(write(tmp_path / "alone.pt", weights))
    assert encoder.embed_clips(WAVES[:1], RATE_HZ).shape == (1, DIM)
    monkeypatch.setattr("aai.models.clap.RobertaTokenizer.from_pretrained", offline)
    monkeypatch.setattr("aai.models.clap.use_hub", lambda name: None)
    with pytest.raises(BadConfig, match="go online, or put tokenizer.json of laion/clap-htsat-unfused beside it"):
        encoder.embed_texts(["fire"])
