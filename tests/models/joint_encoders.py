"""Joint encoders with random weights in the hub's layout, shrunk: classes, processors and files are the real ones.

PE-AV needs timm and torchvision, which are not among the packages for development, because torchvision must be of the
same build as torch; `make joint` installs them into an environment of its own.
"""

import importlib.util
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    EmbeddingGemma2Config,
    EmbeddingGemma2Model,
    EmbeddingGemma2Processor,
    Gemma4AudioFeatureExtractor,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

HAS_TIMM = importlib.util.find_spec("timm") is not None
PE_AV_DIM, GEMMA_DIM, MAX_TOKENS = 24, 20, 64
_SOFT = ("image", "boi", "eoi", "audio", "boa", "eoa")
_SPECIAL = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<|image|>",
    "<|image>",
    "<image|>",
    "<|audio|>",
    "<|audio>",
    "<audio|>",
)
_VOCABULARY = {token: index for index, token in enumerate([*_SPECIAL, "<|video|>", *string.printable[:95]])}
_ROPE = {"rope_theta": 20_000.0, "rope_type": "default"}
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16, "hidden_size": 32, "intermediate_size": 48}


def write_gemma(folder: Path) -> Path:
    """EmbeddingGemma 2 with its three towers, and the files of its processor as they are on the hub."""
    torch.manual_seed(0)
    text = {"vocab_size": 120, "num_key_value_heads": 1, "global_head_dim": 16, "hidden_size_per_layer_input": 8}
    text |= {"embedding_dim": GEMMA_DIM, "sliding_window": 16, "max_position_embeddings": 2_048}
    audio = {"subsampling_conv_channels": [128, 8], "output_proj_dims": 24, "num_hidden_layers": 2}
    layers = {"full_attention", "sliding_attention"}
    config = EmbeddingGemma2Config(
        text_config=_LAYERS | text | {"layer_types": sorted(layers, reverse=True)},
        vision_config=_LAYERS | {"model_type": "gemma4_vision", "num_key_value_heads": 2, "patch_size": 4},
        audio_config=audio | {"model_type": "gemma4_audio", "hidden_size": 32, "num_attention_heads": 2},
        **{f"{name}_token_id": 4 + index for index, name in enumerate(_SOFT[:-1])},
        eoa_token_index=9,
        video_token_id=10,
    )
    _save(EmbeddingGemma2Model(config), folder)
    _gemma_tokenizer().save_pretrained(folder)
    images = Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70).to_dict()
    parts = {"image_processor": images | {"image_processor_type": "Gemma4ImageProcessor"}}
    parts["feature_extractor"] = json.loads(Gemma4AudioFeatureExtractor().to_json_string())
    (folder / "processor_config.json").write_text(json.dumps(parts | {"processor_class": "EmbeddingGemma2Processor"}))
    return folder


def write_pe_av(folder: Path, num_frames: int | None = None) -> Path:
    """PE-AV with all its towers, and the processor's settings of facebook/pe-av-base, for smaller stills."""
    from transformers import PeAudioFeatureExtractor, PeAudioVideoConfig, PeAudioVideoModel, PeVideoVideoProcessor

    torch.manual_seed(1)
    text = {"hidden_size": PE_AV_DIM, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"model_type": "modernbert", "vocab_size": 120, "max_position_embeddings": MAX_TOKENS}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "sep_token_id": 1, "bos_token_id": 2, "cls_token_id": 2}
    codec = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 8, 10, 12], "codebook_dim": 8}
    vit = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384", "num_classes": 24}
    vit |= {"do_pooling": True, "global_pool": "map"}
    vit["model_args"] = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    tower = _LAYERS | {"rope_parameters": _ROPE}
    audio = tower | {"model_type": "pe_audio_encoder", "dac_config": codec}
    video = tower | {"model_type": "pe_video_encoder", "vision_config": vit}
    config = PeAudioVideoConfig(
        text_config=text, audio_video_config=tower | {"audio_config": audio, "video_config": video}
    )
    _save(PeAudioVideoModel(config), folder)
    _tokenizer().save_pretrained(folder)
    PeAudioFeatureExtractor().save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True}
    frames = {
        "do_sample_frames": num_frames is not None,
        "num_frames": num_frames,
        "image_mean": half,
        "image_std": half,
    }
    PeVideoVideoProcessor(size={"height": 32, "width": 32}, **steps, **frames).save_pretrained(folder)
    return folder


class LibraryGemma:
    """EmbeddingGemma 2 by its own processor, an item at a time: mean pooling and normalisation as its card says."""

    def __init__(self, folder: Path) -> None:
        self.model = EmbeddingGemma2Model.from_pretrained(folder).eval()
        parts = (
            Gemma4AudioFeatureExtractor.from_pretrained(folder),
            Gemma4ImageProcessorPil.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
        )
        self.processor = _WithoutVideo(*parts, video_processor=None)

    def clip(self, wave: np.ndarray) -> Tensor:
        return self._embed(audio=[wave], sampling_rate=16_000)

    def image(self, pixels: np.ndarray) -> Tensor:
        return self._embed(images=[[pixels]])

    def caption(self, text: str) -> Tensor:
        return self._embed(text=[f"task: search result | query: {text}"])

    @torch.inference_mode()
    def _embed(self, **given: Any) -> Tensor:
        inputs = self.processor(**given, return_tensors="pt")
        return F.normalize(self.model(**inputs).last_hidden_state[0].mean(0), dim=0)


class _WithoutVideo(EmbeddingGemma2Processor):
    """The processor where torchvision, which only videos need, is not installed."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> type:
        return type(argument)


class LibraryPeAv:
    """PE-AV by its own processor, an item at a time, by the model's whole forward pass with filler for the rest."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from transformers import PeAudioFeatureExtractor, PeAudioVideoConfig, PeAudioVideoModel, PeVideoVideoProcessor

        self.model = PeAudioVideoModel(PeAudioVideoConfig.from_pretrained(folder)).eval()
        self.model.tie_weights()
        self.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        self.frames = PeVideoVideoProcessor.from_pretrained(folder)
        self.sounds = PeAudioFeatureExtractor.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def clip(self, wave: np.ndarray) -> Tensor:
        return self._embed("audio_embeds", wave=wave)

    def image(self, pixels: np.ndarray) -> Tensor:
        return self._embed("video_embeds", pixels=pixels)

    def caption_of_sound(self, text: str) -> Tensor:
        return self._embed("text_audio_embeds", text=text)

    def caption_of_image(self, text: str) -> Tensor:
        return self._embed("text_video_embeds", text=text)

    @torch.inference_mode()
    def _embed(self, name: str, wave: Any = None, pixels: Any = None, text: str = "") -> Tensor:
        wave = np.ones(4_000, np.float32) if wave is None else wave
        pixels = np.zeros((9, 9, 3), np.uint8) if pixels is None else pixels
        inputs = dict(self.sounds([wave], sampling_rate=48_000, return_tensors="pt"))
        inputs |= dict(self.frames([pixels[None]], return_tensors="pt"))
        inputs |= dict(self.tokenizer([text], return_tensors="pt", return_token_type_ids=False))
        return F.normalize(self.model(**inputs)[name][0], dim=0)


def _save(model: nn.Module, folder: Path) -> None:
    """Save a model whose random weights are large enough for different inputs to have different vectors."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight[0].numel() ** -0.5 * 1.5, generator=generator)
    model.save_pretrained(folder)


def _gemma_tokenizer() -> PreTrainedTokenizerFast:
    names = dict(zip((f"{name}_token" for name in _SOFT), _SPECIAL[4:], strict=True))
    return _tokenizer(extra_special_tokens=names)


def _tokenizer(**settings: Any) -> PreTrainedTokenizerFast:
    """A token per character."""
    own = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    own.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=own, padding_side="right", **named, **settings)
