"""A start from given weights instead of from scratch, for a world that has changed a little."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from aai.tiny.training.loop import TrainingSetup

_TOKEN_EMBEDDINGS = ("token_embedding.weight", "word_embeddings.weight")


def warm_start(
    module: nn.Module,
    setup: TrainingSetup,
    model: str,
    tokens: Mapping[str, int] | None = None,
    tokenizer: str | None = None,
) -> list[str]:
    """Copy a model's given weights to `module` if the run starts from any; print and return what is new in it.

    Args:
        module: the model, initialised at random.
        setup: the training run; without `start_from` nothing happens.
        model: folder of the model in `start_from`.
        tokens: ids of the tokens that the module embeds, if it does.
        tokenizer: folder of the given model's tokenizer in `start_from`; the model's own by default.

    Raises:
        FileNotFoundError: `start_from` has no weights of the model, or no tokenizer.
    """
    if setup.start_from is None:
        return []
    folder = setup.start_from / model
    old_tokens = _tokens(setup.start_from / (tokenizer or model)) if tokens else {}
    new = copy_weights(module, _weights(folder), old_tokens, tokens or {})
    Console().print(f"{model} starts from {folder}; new in it: {', '.join(new) or 'nothing'}", markup=False)
    return new


def copy_weights(
    module: nn.Module, known: Mapping[str, Tensor], old_tokens: Mapping[str, int], tokens: Mapping[str, int]
) -> list[str]:
    """Copy the weights of equal name and shape, and embeddings of tokens by token; returns what was not copied.

    Embeddings of new tokens become zero: where one is added to another token's, the sum is at first what it was.
    """
    new = []
    with torch.no_grad():
        for name, weight in module.state_dict().items():
            if tokens and name in known and name.endswith(_TOKEN_EMBEDDINGS):
                new += _copy_embeddings(weight, known[name], old_tokens, tokens)
            elif name in known and known[name].shape == weight.shape:
                weight.copy_(known[name])
            else:
                new.append(name)
    return new


def _copy_embeddings(weight: Tensor, known: Tensor, old: Mapping[str, int], tokens: Mapping[str, int]) -> list[str]:
    both = [token for token in tokens if token in old]
    weight.zero_()
    weight[[tokens[token] for token in both]] = known[[old[token] for token in both]].to(weight)
    return sorted(set(tokens) - set(old), key=lambda token: tokens[token])


def _weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no weights to start from (no *.safetensors)")
    return load_file(files[0])


def _tokens(folder: Path) -> dict[str, int]:
    path = folder / "tokenizer.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no tokenizer of the weights to start from (no {path.name})")
    return dict(json.loads(path.read_text())["model"]["vocab"])
