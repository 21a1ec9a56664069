"""The image-text encoder: embeddings of images and texts by a CLIP model, the space that clips are aligned to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from aai.errors import BadItem
from aai.models import captions
from aai.models.checkpoint import load_errors, load_frozen
from aai.models.device import to_device
from aai.models.revisions import resolve_revision

_MAX_LAYERS = 4
"""Layers of which there are features of patches."""


class ImageTextEncoder:
    """A frozen CLIP model and its processor from a folder or the hub; safetensors only.

    Images use the processor's Pillow backend, so embeddings do not depend on whether torchvision is installed.

    Raises:
        BadConfig: as `resolve_revision` and `load_frozen`, or the processor's files are missing.
    """

    def __init__(
        self,
        name: str | Path,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name, self.revision = resolve_revision(name, revision)
        self.device, self.dtype = torch.device(device), dtype
        self.model = to_device(load_frozen(CLIPModel, name, revision, dtype), self.device)
        with load_errors(CLIPProcessor, name):
            self.processor = CLIPProcessor.from_pretrained(name, revision=revision, backend="pil")
        own = self.processor.image_processor
        mean, std = (
            torch.tensor(numbers, device=self.device).view(1, 3, 1, 1) for numbers in (own.image_mean, own.image_std)
        )
        self._scale, self._mean, self._std = own.rescale_factor, mean, std

    @property
    def dim(self) -> int:
        """The dimension of the embeddings."""
        return int(self.model.config.projection_dim)

    @torch.inference_mode()
    def embed_images(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]] | UInt8[np.ndarray, "images height width 3"],
        batch_size: int = 64,
    ) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the CPU, of RGB images of any sizes; batching does not change them."""
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(images), batch_size):
            prepared = [self.prepare(image) for image in images[start : start + batch_size]]
            parts.append(self.embed_prepared(torch.from_numpy(np.stack(prepared))).cpu())
        return torch.cat(parts)

    def prepare(self, image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "3 height width"]:
        """An RGB image, resized and cropped as the processor does it; threads may call it at the same time."""
        own = self.processor.image_processor
        prepared = np.moveaxis(image, -1, 0)
        if own.do_resize:
            prepared = own.resize(prepared, own.size, own.resample)
        if own.do_center_crop:
            prepared = own.center_crop(prepared, own.crop_size)
        return np.ascontiguousarray(prepared)

    @torch.inference_mode()
    def embed_prepared(self, images: UInt8[Tensor, "images 3 height width"]) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the model's device, of images that `prepare` returned."""
        return _unit(self.model.get_image_features(pixel_values=self._pixels(images)).pooler_output)

    @property
    def side_px(self) -> int:
        """Side of the square images that the model sees, in pixels."""
        return int(self.model.config.vision_config.image_size)

    @torch.inference_mode()
    def embed_patches(
        self, images: UInt8[Tensor, "images 3 height width"]
    ) -> Float32[Tensor, "images layers patches dim"]:
        """Features of the patches, row by row, of images that `prepare` returned; on the model's device.

        They are those after up to four blocks, evenly spaced, the last one included.
        """
        vision = self.model.vision_model(pixel_values=self._pixels(images), output_hidden_states=True)
        num = len(vision.hidden_states) - 1
        layers = sorted({round(num * (index + 1) / _MAX_LAYERS) for index in range(_MAX_LAYERS)} - {0})
        return torch.stack([vision.hidden_states[layer][:, 1:].float() for layer in layers], dim=1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors, on the CPU.

        Raises:
            BadItem: a text is longer than the model's context.
        """
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            tokens = captions.tokenise(batch, self.processor.tokenizer, self._context, self.device)
            output = self.model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            parts.append(_unit(output.pooler_output).cpu())
        return torch.cat(parts)

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""
        return captions.fault_of(text, self.processor.tokenizer, self._context)

    def _pixels(self, images: UInt8[Tensor, "images 3 height width"]) -> Tensor:
        scaled = images.to(self.device, non_blocking=True).float() * self._scale
        return ((scaled - self._mean) / self._std).to(self.dtype)

    @property
    def _context(self) -> int:
        """The longest text, in tokens."""
        return int(self.model.config.text_config.max_position_embeddings)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)
