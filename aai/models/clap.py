"""The audio encoder: a CLAP model, which hears clips and reads what they are said to sound like."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor
from transformers import ClapModel, ClapProcessor

from aai.media.audio import fit_length, resample
from aai.models.checkpoint import load_frozen, loading
from aai.models.revisions import pin


class AudioEncoder:
    """A frozen CLAP model and its processor, in a folder or on the hub, with fusion or without.

    Its weights are safetensors or, as those of the checkpoints on the hub, tensors in `pytorch_model.bin`.

    Raises:
        BadConfig: as `pin` and `load_frozen`, or the processor's files are missing.
    """

    def __init__(
        self,
        name: str | Path,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.name, self.revision = pin(name, revision)
        self.device, self.dtype = torch.device(device), dtype
        self.model = load_frozen(ClapModel, name, revision, dtype, or_tensors_in_bin=True).to(self.device)
        with loading(ClapProcessor, name):
            self.processor = ClapProcessor.from_pretrained(name, revision=revision)

    @property
    def dim(self) -> int:
        """The length of an embedding."""
        return int(self.model.config.projection_dim)

    @property
    def rate_hz(self) -> int:
        """The sample rate that the model hears."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def duration_s(self) -> float:
        """The length that the model hears: of a longer clip the beginning, a shorter one as the checkpoint pads it."""
        return self.processor.feature_extractor.nb_max_samples / self.rate_hz

    @torch.inference_mode()
    def embed_clips(
        self, waves: Sequence[Float32[np.ndarray, " _"]], rate_hz: int, batch_size: int = 32
    ) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the CPU, of mono clips at one rate; each is the same alone and in any batch.

        Raises:
            ValueError: a clip has no samples.
        """
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(waves), batch_size):
            features = self._extract(waves[start : start + batch_size], rate_hz)
            # The extractor of a checkpoint with fusion calls one clip of a batch long, at random; none is.
            longer = torch.zeros(len(features), 1, dtype=torch.bool, device=self.device)
            heard = self.model.get_audio_features(input_features=features, is_longer=longer)
            parts.append(_unit(heard.pooler_output))
        return torch.cat(parts)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors, on the CPU; what exceeds the model's number of tokens is cut off."""
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            tokens = self.processor.tokenizer(
                batch, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            ).to(self.device)
            said = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            parts.append(_unit(said.pooler_output))
        return torch.cat(parts)

    def _extract(self, waves: Sequence[np.ndarray], rate_hz: int) -> Tensor:
        """Log-mel spectrograms of clips made just as long as the extractor wants: a longer one it crops at random."""
        extractor = self.processor.feature_extractor
        fitted = [
            fit_length(resample(wave, rate_hz, self.rate_hz), extractor.nb_max_samples, extractor.padding)
            for wave in waves
        ]
        extracted = extractor(fitted, sampling_rate=self.rate_hz, return_tensors="pt")
        return extracted["input_features"].to(self.device, self.dtype)

    @property
    def _max_tokens(self) -> int:
        """RoBERTa counts positions from the one after that of padding."""
        text = self.model.config.text_config
        return int(text.max_position_embeddings - text.pad_token_id - 1)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1).cpu()
