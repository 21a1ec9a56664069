"""EmbeddingGemma 2: sounds, stills and captions in one space of 768 dimensions.

The vector of an input is the mean of the last hidden states of all its tokens, normalised, as the checkpoint says for
sentence-transformers say. Sounds and images have no prompt; captions have the one for search queries.

Source: the model card of google/embeddinggemma-2, which is under Apache-2.0. float16 overflows in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor
from transformers import (
    AutoTokenizer,
    EmbeddingGemma2Model,
    Gemma4AudioFeatureExtractor,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from aai.errors import BadConfig, BadItem
from aai.media.audio import resample
from aai.models import captions
from aai.models.checkpoint import load_errors, load_frozen
from aai.models.device import to_device
from aai.models.joint import JointEncoder
from aai.models.joint_sides import ImageSide, SoundSide

_QUERY = "task: search result | query: "
"""The prompt of texts that images and sounds are searched by."""

_MAX_SAMPLES, _MAX_TEXT_TOKENS = 480_000, 8_192
"""What the processor keeps of a sound, and the longest text that the model was trained on."""


def load_embedding_gemma(
    name: str | Path, revision: str | None, device: torch.device, dtype: torch.dtype
) -> JointEncoder:
    """EmbeddingGemma 2 from a folder or the hub.

    Raises:
        BadConfig: as `load_frozen`, it has no tower for sound or none for images, files of the processor are missing,
            or the type is float16.
    """
    if dtype == torch.float16:
        raise BadConfig("EmbeddingGemma 2 overflows in float16: set bfloat16 or float32", key="models.dtype")
    model = to_device(load_frozen(EmbeddingGemma2Model, name, revision, dtype), device)
    if model.vision_tower is None or model.audio_tower is None:
        raise BadConfig("it has no tower for sound or none for images: name the whole model", uri=str(name))
    with load_errors(EmbeddingGemma2Model, name):
        images = Gemma4ImageProcessorPil.from_pretrained(name, revision=revision)
        sounds = Gemma4AudioFeatureExtractor.from_pretrained(name, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    tokens = _Tokens(model, tokenizer)
    return JointEncoder(GemmaSounds(tokens, sounds), GemmaImages(tokens, images))


class _Tokens:
    """The text tower, whose sequence holds the soft tokens of a sound or an image."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.dim = int(model.config.text_config.embedding_dim)
        self.context = min(_MAX_TEXT_TOKENS, int(model.config.text_config.max_position_embeddings))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def embed(self, texts: Sequence[str], **inputs: Tensor) -> Tensor:
        """Unit vectors of texts, with the inputs that their placeholders stand for."""
        tokens = captions.tokenise(texts, self.tokenizer, self.context, self.device)
        output = self.model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], **inputs)
        mask = tokens["attention_mask"][..., None].float()
        return F.normalize((output.last_hidden_state.float() * mask).sum(1), dim=-1)

    @torch.inference_mode()
    def embed_captions(self, texts: Sequence[str], batch_size: int) -> Tensor:
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), batch_size):
            parts.append(self.embed([_QUERY + text for text in texts[start : start + batch_size]]).cpu())
        return torch.cat(parts)

    def fault_of(self, text: str) -> BadItem | None:
        return captions.fault_of(_QUERY + text, self.tokenizer, self.context)


class GemmaSounds(SoundSide):
    """The hearing side of EmbeddingGemma 2: log-mel spectrograms of up to 30 s at 16 kHz."""

    def __init__(self, tokens: _Tokens, extractor: Any) -> None:
        super().__init__(tokens)
        self._tokens, self._extract = tokens, extractor

    @property
    def rate_hz(self) -> int:
        """The model's sample rate."""
        return int(self._extract.sampling_rate)

    @property
    def duration_s(self) -> float:
        """The longest clip that it hears."""
        return _MAX_SAMPLES / self.rate_hz

    def prepare(self, wave: Float32[np.ndarray, " _"], rate_hz: int) -> Float32[np.ndarray, "frames bands_and_mask"]:
        """The spectrogram of a mono clip; the last column is 1 where a frame is of the clip, 0 in the padding.

        Raises:
            ValueError: the clip has no samples.
        """
        if not len(wave):
            raise ValueError("an empty wave cannot be embedded")
        features = self._extract([resample(wave, rate_hz, self.rate_hz)], return_tensors="np")
        mask = features["input_features_mask"][0].astype(np.float32)
        return np.concatenate([features["input_features"][0], mask[:, None]], axis=1)

    @torch.inference_mode()
    def embed_prepared(self, clips: Float32[Tensor, "clips frames bands_and_mask"]) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the model's device, of clips that `prepare` returned."""
        own = clips.to(self._tokens.device, non_blocking=True)
        masks = own[..., -1] > 0
        tokenizer = self._tokens.tokenizer
        texts = [
            f"{tokenizer.boa_token}{tokenizer.audio_token * num}{tokenizer.eoa_token}"
            for num in masks[:, ::2][:, ::2].sum(1).tolist()  # two convolutions with a stride of 2
        ]
        return self._tokens.embed(texts, input_features=own[..., :-1], input_features_mask=masks)


class GemmaImages(ImageSide):
    """The seeing side of EmbeddingGemma 2: images keep their proportions."""

    def __init__(self, tokens: _Tokens, processor: Any) -> None:
        super().__init__(tokens)
        self._tokens, self._processor = tokens, processor

    def prepare(self, image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "3 height width"]:
        """An RGB image, resized to whole patches as the processor does it; threads may call it at the same time."""
        own = self._processor
        max_patches = own.max_soft_tokens * own.pooling_kernel_size**2
        return np.ascontiguousarray(
            own.aspect_ratio_preserving_resize(
                np.moveaxis(image, -1, 0), own.patch_size, max_patches, own.pooling_kernel_size, own.resample
            )
        )

    @torch.inference_mode()
    def embed_prepared(self, images: UInt8[Tensor, "images 3 height width"]) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the model's device, of images that `prepare` returned."""
        own, tokenizer = self._processor, self._tokens.tokenizer
        patches, positions = _patches(images.to(self._tokens.device, non_blocking=True), own.patch_size)
        num = patches.shape[1] // own.pooling_kernel_size**2
        text = f"{tokenizer.boi_token}{tokenizer.image_token * num}{tokenizer.eoi_token}"
        return self._tokens.embed(
            [text] * len(images), pixel_values=patches * own.rescale_factor, image_position_ids=positions
        )


def _patches(images: UInt8[Tensor, "images 3 height width"], size: int) -> tuple[Tensor, Tensor]:
    """The pixels of each patch, row by row, each with its three channels, and its column and row."""
    num, channels, height, width = images.shape
    rows, columns = height // size, width // size
    grid = images.view(num, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
    y, x = torch.meshgrid(
        torch.arange(rows, device=images.device), torch.arange(columns, device=images.device), indexing="ij"
    )
    positions = torch.stack([x, y], dim=-1).view(1, rows * columns, 2).expand(num, -1, -1)
    return grid.reshape(num, rows * columns, -1).float(), positions
