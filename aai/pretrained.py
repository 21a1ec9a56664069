"""Base class of this project's own small networks: saved as a folder with `config.json` and `model.safetensors`."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aai.errors import BadConfig

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_AGAIN = "copy or train it again"

AnyModule = TypeVar("AnyModule", bound="PretrainedModule")


class PretrainedModule(nn.Module, PyTorchModelHubMixin):
    """A module saved and loaded like a Hugging Face model; `config.json` holds its constructor's arguments."""

    @classmethod
    def load(cls: type[AnyModule], folder: str | Path) -> AnyModule:
        """The module in a local folder: float32, on the CPU, in evaluation mode.

        Raises:
            FileNotFoundError: the folder has no weights.
            BadConfig: a file is damaged, they do not match each other or the class, or a weight is not finite.
        """
        config, weights = Path(folder) / _CONFIG, Path(folder) / _WEIGHTS
        if not weights.is_file():
            raise FileNotFoundError(f"{folder}: it holds no {cls.__name__} (no {_WEIGHTS})")
        try:
            with torch.device("meta"):  # nothing is allocated for sizes that a damaged file may claim
                module = cls(**json.loads(config.read_bytes()))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise BadConfig(f"no configuration of a {cls.__name__}: {_AGAIN}", uri=str(config)) from error
        try:
            module.load_state_dict(load_file(weights), assign=True)
        except (OSError, SafetensorError) as error:
            raise BadConfig(f"damaged or cut short: {_AGAIN}", uri=str(weights)) from error
        except RuntimeError as error:  # missing or further weights, or other sizes
            sentence = f"its weights are not those of the {cls.__name__} that {_CONFIG} describes: {_AGAIN}"
            raise BadConfig(sentence, uri=str(weights)) from error
        check_finite(module, str(weights))
        return module.float().eval()

    def save(self, folder: str | Path) -> None:
        """Write configuration and weights to a local folder, without the mixin's model card."""
        PyTorchModelHubMixin.save_pretrained(self, folder)
        (Path(folder) / "README.md").unlink(missing_ok=True)


def check_finite(module: nn.Module, uri: str, remedy: str = _AGAIN, unless: tuple[str, ...] = ()) -> None:
    """Check that all weights of a module are finite, but for those whose names end with one of `unless`.

    Raises:
        BadConfig: one is not.
    """
    for name, weight in module.state_dict().items():
        if weight.is_floating_point() and not name.endswith(unless) and not weight.isfinite().all():
            raise BadConfig(f"its weight {name} is not finite: {remedy}", uri=uri)
