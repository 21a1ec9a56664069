"""Base class of this project's own small networks: saved as a folder with `config.json` and `model.safetensors`."""

import contextlib
import io
from pathlib import Path
from typing import TypeVar

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

AnyModule = TypeVar("AnyModule", bound="PretrainedModule")


class PretrainedModule(nn.Module, PyTorchModelHubMixin):
    """A module saved and loaded like a Hugging Face model; `config.json` holds its constructor's arguments."""

    @classmethod
    def load(cls: type[AnyModule], folder: str | Path) -> AnyModule:
        """The module in a local folder: float32, on the CPU, in evaluation mode.

        Raises:
            FileNotFoundError: the folder has no weights.
        """
        if not (Path(folder) / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder}: it holds no {cls.__name__} (no model.safetensors)")
        with contextlib.redirect_stdout(io.StringIO()):  # the mixin prints
            return cls.from_pretrained(folder).float().eval()

    def save(self, folder: str | Path) -> None:
        """Write configuration and weights to a local folder, without the mixin's model card."""
        PyTorchModelHubMixin.save_pretrained(self, folder)
        (Path(folder) / "README.md").unlink(missing_ok=True)
