"""PE-AV, the audio-visual perception encoder: sounds, stills and captions in one space of 1,024 dimensions.

A still is a video of one frame, which the checkpoints for all frames take (`facebook/pe-av-base`, not
`pe-av-base-16-frame`). Captions have a head for sounds and one for images; vectors are normalised here, the model does
not do it. Of the model the towers for sound, video and text are kept, not the one that fuses sound and video.

Source: Vyas et al. 2025, "Pushing the Frontier of Audiovisual Perception with Large-Scale Multimodal Correspondence
Learning" (arXiv 2512.19687); the checkpoints are under Apache-2.0.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from aai.errors import BadConfig, BadItem
from aai.media.audio import resample
from aai.models import captions
from aai.models.checkpoint import load_errors, load_frozen
from aai.models.device import to_device
from aai.models.folders import check_packages
from aai.models.joint import JointEncoder
from aai.models.joint_sides import ImageSide, SoundSide


def load_pe_av(name: str | Path, revision: str | None, device: torch.device, dtype: torch.dtype) -> JointEncoder:
    """PE-AV from a folder or the hub.

    Raises:
        BadConfig: as `load_frozen`, files of the processor are missing, it is a checkpoint for 16 frames, or timm or
            torchvision are not installed.
    """
    with _packages(name):
        from transformers import AutoTokenizer, PeAudioFeatureExtractor, PeAudioVideoModel, PeVideoVideoProcessor

        class Loadable(PeAudioVideoModel):
            """Loads with every version of timm: its later ones have a further buffer, which cannot be tied."""

            _tied_weights_keys = _without_buffers(PeAudioVideoModel._tied_weights_keys)

    Loadable.__name__ = PeAudioVideoModel.__name__
    with contextlib.redirect_stdout(io.StringIO()):  # transformers 5.23 prints a remark on its own documentation
        model = load_frozen(Loadable, name, revision, dtype)
    del model.audio_video_encoder
    _hear_in_float32(model, dtype)
    model = to_device(model, device)
    with load_errors(PeVideoVideoProcessor, name):
        extractor = PeAudioFeatureExtractor.from_pretrained(name, revision=revision)
        frames = PeVideoVideoProcessor.from_pretrained(name, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    if frames.num_frames:
        sentence = f"it is a checkpoint for videos of {frames.num_frames} frames, which takes no stills"
        raise BadConfig(f"{sentence}: name one for all frames, as facebook/pe-av-base", uri=str(name))
    return JointEncoder(PeAvSounds(model, extractor, tokenizer), PeAvImages(model, frames, tokenizer, dtype))


class PeAvSounds(SoundSide):
    """The hearing side of PE-AV: waves at 48 kHz, without a spectrogram."""

    def __init__(self, model: Any, extractor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(_Captions(model, model.audio_model.text_audio_head, tokenizer))
        self.model, self._extract = model, extractor

    @property
    def rate_hz(self) -> int:
        """The model's sample rate."""
        return int(self._extract.sampling_rate)

    @property
    def duration_s(self) -> float:
        """The longest clip: the frames for which the model has positions."""
        config = self.model.config.audio_video_config.audio_config
        return config.max_position_embeddings * self._extract.hop_length / self.rate_hz

    def prepare(self, wave: Float32[np.ndarray, " _"], rate_hz: int) -> Float32[np.ndarray, "1 samples"]:
        """A mono clip at the model's rate, continued by reflection to whole frames; threads may call it.

        Raises:
            ValueError: the clip has no samples.
        """
        if not len(wave):
            raise ValueError("an empty wave cannot be embedded")
        own = resample(wave, rate_hz, self.rate_hz)
        values: np.ndarray = self._extract([own], sampling_rate=self.rate_hz)["input_values"][0]
        return values.astype(np.float32, copy=False)

    @torch.inference_mode()
    def embed_prepared(self, clips: Float32[Tensor, "clips 1 samples"]) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the model's device, of clips that `prepare` returned, which are heard whole."""
        return _unit(self.model.get_audio_embeds(clips.to(self.model.device, non_blocking=True)))


class PeAvImages(ImageSide):
    """The seeing side of PE-AV: stills as videos of one frame."""

    def __init__(self, model: Any, frames: Any, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> None:
        super().__init__(_Captions(model, model.video_model.text_video_head, tokenizer))
        self.model, self._frames, self._dtype = model, frames, dtype
        self._mean, self._std = (
            torch.tensor(numbers, device=model.device).view(1, 3, 1, 1)
            for numbers in (frames.image_mean, frames.image_std)
        )

    def prepare(self, image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "3 height width"]:
        """An RGB image, resized as the processor does it; threads may call it at the same time."""
        own = self._frames
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))[None]
        return own.resize(pixels, own.size, own.resample)[0].numpy()

    @torch.inference_mode()
    def embed_prepared(self, images: UInt8[Tensor, "images 3 height width"]) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the model's device, of images that `prepare` returned."""
        scaled = images.to(self.model.device, non_blocking=True).float() * self._frames.rescale_factor
        pixels = ((scaled - self._mean) / self._std).to(self._dtype)
        video = self.model.video_model  # transformers 5.23 calls a method that its video model does not have
        return _unit(video.video_head(video.video_encoder(pixel_values_videos=pixels[:, None]).pooler_output))


class _Captions:
    """The text tower with one of its heads."""

    def __init__(self, model: Any, head: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._head, self._tokenizer = model, head, tokenizer
        self.dim = int(model.config.text_config.hidden_size)
        self._context = int(model.config.text_config.max_position_embeddings)

    def fault_of(self, text: str) -> BadItem | None:
        return captions.fault_of(text, self._tokenizer, self._context)

    @torch.inference_mode()
    def embed_captions(self, texts: Sequence[str], batch_size: int) -> Tensor:
        parts = [torch.empty(0, self.dim)]
        for start in range(0, len(texts), batch_size):
            batch = list(texts[start : start + batch_size])
            tokens = captions.tokenise(batch, self._tokenizer, self._context, self._model.device)
            output = self._model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], output_hidden_states=True
            )
            parts.append(_unit(self._head(output.hidden_states[-1][:, 0])).cpu())
        return torch.cat(parts)


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _hear_in_float32(model: Any, dtype: torch.dtype) -> None:
    """Run the codec, which reads the samples, in float32: in bfloat16 a sample has 8 bits."""
    embedder = model.audio_model.audio_encoder.embedder
    embedder.dac_encoder.float()
    embedder.bottleneck.float().register_forward_hook(lambda module, given, features: features.to(dtype))


def _without_buffers(tied: dict[str, str]) -> dict[str, str]:
    """The patterns of tied weights, with timm's position buffers left out, which are not weights."""
    return {_excluding(copy): _excluding(source) for copy, source in tied.items()}


def _excluding(pattern: str) -> str:
    return pattern[: pattern.index("(?!")] + r"(?!rotary_emb|.*\.rope\.)"


@contextlib.contextmanager
def _packages(name: str | Path) -> Iterator[None]:
    """Check that timm, whose vision tower PE-AV has, and torchvision are there and fit torch.

    Raises:
        BadConfig: they are not, or do not.
    """
    check_packages("pe_audio_video", name)
    try:
        import timm  # noqa: F401 - with torchvision, an extra
    except RuntimeError as error:
        sentence = "torchvision is of another build than torch: install both from one index"
        raise BadConfig(f"{sentence}, or name EmbeddingGemma 2", uri=str(name)) from error
    yield
