"""Checkpoints of LAION's own package `laion-clap` as models of transformers.

They hold weights under other names, and neither a configuration nor a tokenizer: sizes are those of the weights, and
settings that no weight shows are those of the package.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from aai.errors import BadConfig
from aai.pretrained import check_finite

TOKENIZER = ("laion/clap-htsat-unfused", "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a")
"""RoBERTa's tokenizer, which all checkpoints use: name and revision on the hub."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
"""One of these beside a checkpoint is used instead."""

_PACKAGE_ONLY = re.compile(
    r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\.|.*\.attn_mask$"
    r"|(text|audio)_transform\.|text_branch\.embeddings\.position_ids$"
)
"""Weights without a part in embeddings: spectrograms, heads of the training, and tables that are made again."""

_RENAMED = (
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"(\.blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(\.blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
)
_QKV = ".attention.self.qkv."
_FILTERS = "audio_branch.logmel_extractor.melW"
_PATCHES = "audio_branch.patch_embed.proj.weight"
_FUSION = "audio_branch.patch_embed.mel_conv2d.weight"

_MODELS = "the checkpoints of LAION are at huggingface.co/lukewys/laion_clap"
_HEAD_DIM = 64  # of RoBERTa's attention
_MAX_FILTER_ERROR = 1e-5


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by their names in the package; nothing in the file is run.

    Raises:
        BadConfig: it cannot be read, is cut short, or holds something else.
    """
    try:
        with torch.serialization.safe_globals(_numbers()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of any class: torch checks little of what is in the file
        said = " ".join(str(error).split())[:200]
        raise BadConfig(f"it cannot be read ({said}): download it again; {_MODELS}", uri=str(path)) from error
    weights = found.get("state_dict", found) if isinstance(found, dict) else {}
    tensors = {str(name).removeprefix("module."): one for name, one in weights.items() if isinstance(one, Tensor)}
    _check_kind(tensors, path)
    return tensors


def to_model(tensors: Mapping[str, Tensor], uri: str, dtype: torch.dtype) -> ClapModel:
    """The model of a checkpoint: on the CPU, frozen, in evaluation mode.

    Raises:
        BadConfig: weights are missing, unknown or of other sizes, or one is not finite.
    """
    try:
        config = config_of(tensors)
    except (KeyError, IndexError) as error:
        raise BadConfig(f"it lacks weights, {error} among them: download it again; {_MODELS}", uri=uri) from error
    with torch.device("meta"):
        model = ClapModel(config)
    wanted = model.state_dict()
    given = _renamed(tensors)
    own_tables = {name: table for name, table in _tables(model).items() if name not in given}
    faults = [*(f"{name} is missing" for name in wanted.keys() - given.keys() - own_tables.keys())]
    faults += [f"{name} is unknown" for name in given.keys() - wanted.keys()]
    faults += [f"{name} has another size" for name in given.keys() & wanted.keys() if _differs(given, wanted, name)]
    if faults:
        sentence = f"{len(faults)} of its weights are not those of such a model ({min(faults)})"
        raise BadConfig(f"{sentence}: download it again; {_MODELS}", uri=uri)
    model.load_state_dict(given | own_tables, assign=True)
    model = model.to(dtype).requires_grad_(False).eval()
    check_finite(model, uri, "download it again, or set models.dtype to float32")
    return model


def config_of(tensors: Mapping[str, Tensor]) -> ClapConfig:
    """The configuration of a checkpoint's model, from the sizes of its weights."""
    words, places = (tensors[f"text_branch.embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    text = {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "intermediate_size": tensors["text_branch.encoder.layer.0.intermediate.dense.weight"].shape[0],
        "num_hidden_layers": _count(tensors, r"text_branch\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, words.shape[1] // _HEAD_DIM),
        "max_position_embeddings": places.shape[0],
        "type_vocab_size": tensors["text_branch.embeddings.token_type_embeddings.weight"].shape[0],
        "layer_norm_eps": 1e-5,  # RoBERTa's; the default of ClapTextConfig is another
    }
    patches = tensors[_PATCHES]
    stages = range(_count(tensors, r"audio_branch\.layers\.(\d+)\."))
    biases = [tensors[f"audio_branch.layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in stages]
    fc1 = tensors["audio_branch.layers.0.blocks.0.mlp.fc1.weight"]
    is_fused = _FUSION in tensors
    audio = {
        "patch_embeds_hidden_size": patches.shape[0],
        "patch_size": patches.shape[2],
        "patch_stride": list(patches.shape[2:]),
        "depths": [_count(tensors, rf"audio_branch\.layers\.{i}\.blocks\.(\d+)\.") for i in stages],
        "num_attention_heads": [bias.shape[1] for bias in biases],
        "window_size": (round(biases[0].shape[0] ** 0.5) + 1) // 2,
        "mlp_ratio": fc1.shape[0] / fc1.shape[1],
        "hidden_size": tensors["audio_branch.norm.weight"].shape[0],
        "num_mel_bins": tensors["audio_branch.bn0.weight"].shape[0],
        "num_hidden_layers": len(stages),
        "enable_fusion": is_fused,
        "fusion_type": "aff_2d" if is_fused else None,
    }
    dim = tensors["audio_projection.2.weight"].shape[0]
    return ClapConfig(text_config=text, audio_config=audio, projection_dim=dim)


def feature_extractor_of(tensors: Mapping[str, Tensor], uri: str) -> ClapFeatureExtractor:
    """The front end of the package: 48 kHz, 10 s, 64 mel bands from 50 to 14,000 Hz, whole repetitions and zeros.

    Raises:
        BadConfig: the checkpoint has other mel filters.
    """
    extractor = ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=48_000,
        hop_length=480,
        fft_window_size=1_024,
        max_length_s=10,
        frequency_min=50,  # the default of transformers is 0
        frequency_max=14_000,
        truncation="fusion" if _FUSION in tensors else "rand_trunc",  # it selects the mel filters
        padding="repeatpad",
    )
    own, wanted = tensors.get(_FILTERS), torch.as_tensor(extractor.mel_filters_slaney)
    if own is not None and (own.shape != wanted.shape or (own - wanted).abs().max() > _MAX_FILTER_ERROR):
        raise BadConfig(f"its mel filters are not those of 50 to 14,000 Hz at 48 kHz: {_MODELS}", uri=uri)
    return extractor


def _check_kind(tensors: Mapping[str, Tensor], path: Path) -> None:
    if _PATCHES not in tensors:
        other = "a CLAP with another audio encoder" if "audio_projection.2.weight" in tensors else "no CLAP model"
        raise BadConfig(f"it holds {other}, and HTSAT is needed: {_MODELS}", uri=str(path))
    if "text_branch.embeddings.word_embeddings.weight" not in tensors:
        raise BadConfig(f"its text encoder is not RoBERTa: {_MODELS}", uri=str(path))


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by their names in transformers; queries, keys and values are separate there."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _PACKAGE_ONLY.match(name):
            continue
        for pattern, other in _RENAMED:
            name = re.sub(pattern, other, name)
        if _QKV in name:
            for part, one in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("qkv", part)] = one.contiguous()
        else:
            renamed[name] = tensor
    return renamed


def _tables(model: ClapModel) -> dict[str, Tensor]:
    """Tables of the text encoder that no checkpoint needs: they follow from its length."""
    length = model.config.text_config.max_position_embeddings
    numbers = torch.arange(length).expand(1, -1).clone()
    known = {"position_ids": numbers, "token_type_ids": torch.zeros_like(numbers)}
    return {f"text_model.embeddings.{name}": table for name, table in known.items()}


def _differs(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str) -> bool:
    return given[name].shape != wanted[name].shape


def _count(names: Iterable[str], pattern: str) -> int:
    """How many numbers stand where the pattern has its group."""
    return len({found.group(1) for name in names if (found := re.match(pattern, name))})


def _numbers() -> list:
    """What numbers of numpy are made of: the package's checkpoints have metrics beside their weights."""
    scalar = np.dtype("float64").type(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
