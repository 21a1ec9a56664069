"""One clip, one picture, without a workspace."""

from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from aai.errors import BadConfig, BadItem
from aai.media import audio, images, provenance
from aai.models.revisions import pin
from aai.options import PLACEHOLDER
from tasks.runtime.config import Config

_KINDS: dict[str, Literal["png", "jpeg", "webp"]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def imagine(config: Config, clip: Path, prompt: str, seed: int, suffix: str = ".png") -> bytes:
    """The file of a picture of what is heard in a clip, by the profile's mapper alone; nothing is fitted.

    It says in itself that it is generated, and what was asked for.

    Raises:
        BadItem: the clip cannot be used.
        BadConfig: the prompt has no place for the cue, the ending is no picture's, or the profile has no mapper.
    """
    if PLACEHOLDER not in prompt:
        raise BadConfig(f"prompt: {prompt!r} has no {PLACEHOLDER} where the sound could stand")
    if suffix.lower() not in _KINDS:
        raise BadConfig(f"output: {suffix!r} is no ending of a picture: use {', '.join(_KINDS)}")
    if config.models.aligner is None or config.models.mapper is None:
        raise BadConfig(f"profile: {config.profile} ships no aligner and no mapper: name folders of both in `models`")
    wave, rate_hz = first_window(clip, config.ingest.audio)
    pixels = _picture(config, wave, rate_hz, prompt, seed)
    return images.encode(pixels, _KINDS[suffix.lower()], xmp=_packet(config, pixels, prompt, seed))


def first_window(clip: Path, options: audio.AudioOptions) -> tuple[np.ndarray, int]:
    """The first window of a recording in which something is heard, and its sample rate.

    Raises:
        BadItem: the file does not exist, cannot be read, or is silent.
    """
    try:
        data = clip.read_bytes()
    except OSError as error:
        raise BadItem(f"{clip}: it cannot be read ({type(error).__name__}): look at its path and its rights") from error
    recording = audio.decode(data, str(clip), options)
    wave = audio.to_mono(recording.samples)
    found = audio.windows(wave, recording.rate_hz, options)
    if not found:
        raise BadItem(f"{clip}: nothing is heard in it")
    return audio.cut(wave, recording.rate_hz, found[0]), recording.rate_hz


def _picture(config: Config, wave: np.ndarray, rate_hz: int, prompt: str, seed: int) -> np.ndarray:
    import torch

    from aai.align.projector import Projector
    from aai.cues.mapper import CueMapper
    from aai.models.clap import AudioEncoder
    from tasks.runtime.models import open_diffusion

    models = config.models
    assert models.aligner is not None and models.mapper is not None, "seen before"
    heard = AudioEncoder(models.audio.name, models.audio.revision).embed_clips([wave], rate_hz)
    with torch.inference_mode():
        cue = CueMapper.load(models.mapper)(Projector.load(models.aligner)(heard))
    pictures: np.ndarray = open_diffusion(config).render([prompt], [seed], cue, options=config.render)
    return pictures[0]


def _packet(config: Config, pixels: np.ndarray, prompt: str, seed: int) -> bytes:
    model, revision = pin(config.models.diffusion.name, config.models.diffusion.revision)
    said = {"prompt": prompt, "seed": seed, "width": pixels.shape[1], "height": pixels.shape[0]}
    asked = config.render.model_dump(include={"steps", "guidance", "scheduler"}) | said
    return provenance.packet(model, revision, prompt, version("aai"), asked)
