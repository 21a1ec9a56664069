"""The audio encoder: embeddings of audio clips and texts by a CLAP model."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from torch import Tensor
from transformers import (
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
)

from aai.errors import BadConfig, BadItem
from aai.media.audio import fit_length, resample
from aai.models import captions, laion
from aai.models.checkpoint import load_errors, load_frozen
from aai.models.device import to_device
from aai.models.hub import use_hub
from aai.models.log_mel import LogMel
from aai.models.revisions import resolve_revision


class AudioEncoder:
    """A frozen CLAP model and its processor from a folder or the hub, with or without feature fusion.

    The weights are safetensors or, as in the checkpoints on the hub, tensors in `pytorch_model.bin`. A file is a
    checkpoint of LAION's own package: its tokenizer is in the file's folder, or is RoBERTa's from the hub.

    Raises:
        BadConfig: as `resolve_revision`, `load_frozen` and `aai.models.laion`, or the processor's files are missing.
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
        load = _load_laion if Path(name).is_file() else _load
        model, self.extractor, self._load_tokenizer = load(name, revision, dtype)
        self.model = to_device(model, self.device)
        self._log_mel = LogMel(self.extractor).to(self.device)
        _norm_in_float32(self.model, dtype)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the model's texts, which sounds do not need.

        Raises:
            BadConfig: it is missing or damaged.
        """
        return self._load_tokenizer()

    @property
    def dim(self) -> int:
        """The dimension of the embeddings."""
        return int(self.model.config.projection_dim)

    @property
    def rate_hz(self) -> int:
        """The model's sample rate."""
        return int(self.extractor.sampling_rate)

    @property
    def duration_s(self) -> float:
        """The model's input length: longer clips are cut at their end, shorter ones padded as the checkpoint sets."""
        return self.extractor.nb_max_samples / self.rate_hz

    @torch.inference_mode()
    def embed_clips(
        self, waves: Sequence[Float32[np.ndarray, " _"]], rate_hz: int, batch_size: int = 32
    ) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the CPU, of mono clips at one sample rate; batching does not change them.

        Raises:
            ValueError: a clip has no samples.
        """
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(waves), batch_size):
            fitted = [self.prepare(wave, rate_hz) for wave in waves[start : start + batch_size]]
            parts.append(self.embed_prepared(torch.from_numpy(np.stack(fitted))).cpu())
        return torch.cat(parts)

    def prepare(self, wave: Float32[np.ndarray, " _"], rate_hz: int) -> Float32[np.ndarray, " samples"]:
        """A mono clip at the model's rate and input length; threads may call it at the same time.

        Raises:
            ValueError: the clip has no samples.
        """
        # The extractor would crop longer ones at random.
        fitted = resample(wave, rate_hz, self.rate_hz)
        return fit_length(fitted, self.extractor.nb_max_samples, self.extractor.padding)

    @torch.inference_mode()
    def embed_prepared(self, waves: Float32[Tensor, "clips samples"]) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the model's device, of clips that `prepare` returned."""
        features = self.spectrograms(waves)
        # With fusion, the feature extractor marks a random clip of each batch as longer; none is, all are cut.
        is_longer = torch.zeros(len(features), 1, dtype=torch.bool, device=self.device)
        output = self.model.get_audio_features(input_features=features, is_longer=is_longer)
        return _unit(output.pooler_output)

    def spectrograms(self, waves: Float32[Tensor, "clips samples"]) -> Float32[Tensor, "clips channels frames mels"]:
        """Log-mel spectrograms, on the model's device, of clips that `prepare` returned."""
        return self._log_mel(waves.to(self.device, non_blocking=True))

    def save(self, folder: str | Path) -> None:
        """Write model and processor to a folder from which an `AudioEncoder` is loaded; weights are safetensors."""
        self.model.save_pretrained(folder, safe_serialization=True)
        ClapProcessor(self.extractor, self.tokenizer).save_pretrained(folder)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors, on the CPU.

        Raises:
            BadItem: a text is longer than the model's context.
        """
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            tokens = captions.tokenise(batch, self.tokenizer, self._context, self.device)
            output = self.model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            parts.append(_unit(output.pooler_output).cpu())
        return torch.cat(parts)

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""
        return captions.fault_of(text, self.tokenizer, self._context)

    @property
    def _context(self) -> int:
        """The longest text in tokens: RoBERTa's position ids start after the padding id."""
        text = self.model.config.text_config
        return int(text.max_position_embeddings - text.pad_token_id - 1)


_Parts = tuple[ClapModel, ClapFeatureExtractor, Callable[[], PreTrainedTokenizerBase]]


def _load(name: str | Path, revision: str | None, dtype: torch.dtype) -> _Parts:
    model = load_frozen(ClapModel, name, revision, dtype, allow_bin=True)
    with load_errors(ClapProcessor, name):
        processor = ClapProcessor.from_pretrained(name, revision=revision)
    return model, processor.feature_extractor, lambda: processor.tokenizer


def _load_laion(name: str | Path, revision: str | None, dtype: torch.dtype) -> _Parts:
    path = Path(name)
    tensors = laion.read_checkpoint(path)
    model, extractor = laion.to_model(tensors, str(path), dtype), laion.feature_extractor_of(tensors, str(path))
    return model, extractor, lambda: _laion_tokenizer(path)


def _laion_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Of the checkpoint's folder, or from the hub.

    Raises:
        BadConfig: it is damaged, or there is none and the hub does not answer.
    """
    folder = path.parent
    if any((folder / name).is_file() for name in laion.TOKENIZER_FILES):
        with load_errors(RobertaTokenizer, folder):
            return RobertaTokenizer.from_pretrained(folder)
    name, commit = laion.TOKENIZER
    use_hub(name)
    try:
        return RobertaTokenizer.from_pretrained(name, revision=commit)
    except (OSError, ValueError) as error:
        reason = "the hub does not answer, and there is no tokenizer beside the checkpoint, which has none itself"
        raise BadConfig(f"{reason}: go online, or put tokenizer.json of {name} beside it", uri=str(path)) from error


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _norm_in_float32(model: ClapModel, dtype: torch.dtype) -> None:
    """Normalise spectrograms in float32: in bfloat16 a step between -64 and -128 dB is half a decibel."""
    norm = model.audio_model.audio_encoder.batch_norm.float()
    norm.register_forward_hook(lambda module, given, normalised: normalised.to(dtype))
