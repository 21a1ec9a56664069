"""What our own small networks have in common: a folder on disk with `config.json` and `model.safetensors`."""

import contextlib
import io
from pathlib import Path
from typing import TypeVar

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

AnyNetwork = TypeVar("AnyNetwork", bound="Network")


class Network(nn.Module, PyTorchModelHubMixin):
    """A network saved and loaded as other Hugging Face models are; its configuration is its constructor's arguments."""

    @classmethod
    def load(cls: type[AnyNetwork], folder: str | Path) -> AnyNetwork:
        """The network in a local folder, in float32, on the CPU, for evaluation.

        Raises:
            FileNotFoundError: the folder has no weights.
        """
        if not (Path(folder) / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder}: there is no model.safetensors of a {cls.__name__}")
        with contextlib.redirect_stdout(io.StringIO()):  # the mixin prints what it does
            return cls.from_pretrained(folder).float().eval()

    def save(self, folder: str | Path) -> None:
        """Write the network, and nothing else, to a local folder."""
        PyTorchModelHubMixin.save_pretrained(self, folder)
        (Path(folder) / "README.md").unlink(missing_ok=True)
