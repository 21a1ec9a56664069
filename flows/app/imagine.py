"""One recording, one picture, without fitting: the shipped models of a profile, or those of a bank."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from aai.cues.options import FitOptions, TrainMapperOptions
from aai.errors import BadConfig, BadItem
from aai.inject.prompt import parse
from aai.media import audio, images, provenance, windows
from aai.media.options import IngestOptions
from aai.options import PLACEHOLDER
from aai.workspace import SCHEMAS
from flows.app.opening import changed, nearby, open_at
from flows.app.output import check_output, write_output
from tasks.render import RenderSectionOptions
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.caption_cues import CaptionCues
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run

if TYPE_CHECKING:
    from torch import Tensor

_OUTPUT, _PROFILE = "--output", "tiny"
_KINDS: dict[str, Literal["png", "jpeg", "webp"]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def run_of(config: Path | None, profile: str | None, changes: list[str] | None) -> Run:
    """The run with the models of a configuration file, or of a profile; without both, that of ./aai.yaml or tiny.

    Raises:
        BadConfig: both are named, or one of them or a change is wrong.
    """
    if config and profile:
        raise BadConfig(f"{config} has a profile of its own: leave one of -c and --profile out", key="--profile")
    if not profile and (found := nearby(config, f"with the models of the profile {_PROFILE}")):
        return open_at(found, changes)
    return open_run(make_config(**changed({"profile": profile or _PROFILE}, changes)))


def imagine(run: Run, clip: Path, prompt: str, seed: int, output: Path) -> None:
    """Write a picture of what is heard in a recording; nothing is fitted.

    The cue is that of the run's aligner and mapper; of the captions where there is no bank that could have a mapper.

    The picture's metadata says that it is generated, and from which prompt.

    Raises:
        BadItem: the recording or the prompt cannot be used.
        BadConfig: the picture cannot be written, or the run has no aligner or no mapper.
    """
    suffix = output.suffix.lower()
    if suffix not in _KINDS:
        raise BadConfig(f"{suffix!r} is not a suffix of a picture: use {', '.join(_KINDS)}", key=_OUTPUT)
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise BadConfig(f"{prompt!r} is not UTF-8: write it again", key="prompt") from error
    if not parse(prompt).slots:
        raise BadConfig(f"{prompt!r} has no {PLACEHOLDER} for the sound: put one in", key="prompt")
    check_output(output, _OUTPUT, lambda data: provenance.MARK in data)
    wave, rate_hz = first_window(clip, run.config.options(IngestOptions).audio)
    pixels = _picture(run, wave, rate_hz, prompt, seed)
    data = images.encode(pixels, _KINDS[suffix], xmp=_packet(run, pixels, prompt, seed))
    write_output(output, data, _OUTPUT)


def first_window(clip: Path, options: audio.AudioOptions) -> tuple[np.ndarray, int]:
    """The first window of a recording that is not silent, and its sample rate.

    Raises:
        BadItem: the file does not exist, cannot be read, or is silent.
    """
    try:
        data = clip.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, FileNotFoundError):
            raise BadItem("there is no such file: name a recording", uri=str(clip)) from error
        reason = f"it cannot be read ({type(error).__name__}): look at its path and permissions"
        raise BadItem(reason, uri=str(clip)) from error
    recording = audio.decode(data, str(clip), options)
    wave = audio.to_mono(recording.samples)
    found = windows.windows(wave, recording.rate_hz, options)
    if not found:
        raise BadItem(windows.no_window(wave, recording.rate_hz, options), uri=str(clip))
    return windows.cut(wave, recording.rate_hz, found[0]), recording.rate_hz


def _picture(run: Run, wave: np.ndarray, rate_hz: int, prompt: str, seed: int) -> np.ndarray:
    from tasks.embed import check_window
    from tasks.runtime.models import open_diffusion, open_sounds

    run.check_models()
    encoder = open_sounds(run.config)
    check_window(run.config.options(IngestOptions).audio.window_s, encoder.duration_s)
    vectors = encoder.embed_clips([wave], rate_hz).numpy()
    cue = CaptionCues(run.config)(vectors) if _has_captions_only(run) else _mapped(run, vectors)
    options = run.config.options(RenderSectionOptions).of_jobs
    num_names = len(parse(prompt).names)
    cues = cue.repeat(1, num_names, 1)  # every name of the prompt is this sound
    pictures: np.ndarray = open_diffusion(run.config).render([prompt], [seed], cues, options=options)
    return pictures[0]


def _has_captions_only(run: Run) -> bool:
    """Whether there is no mapper: without a bank there is one only if the profile ships it."""
    method = run.config.options(FitOptions).method
    is_trained = run.config.options(TrainMapperOptions).method == "learned"
    return method == "captions" or (is_trained and not run.config.audio)


def _mapped(run: Run, vectors: np.ndarray) -> "Tensor":
    """The cue that the run's aligner and mapper make of an audio vector.

    Raises:
        BadConfig: the mapper is not trained yet.
    """
    import pyarrow as pa
    import torch

    from tasks.align import ALIGNED_VECTORS
    from tasks.runtime.models import open_mapper

    assert ALIGNED_VECTORS.worker, "align has a worker"
    context = run.context()
    mapper, align = open_mapper(context), ALIGNED_VECTORS.worker(context)
    outcome = align(pa.table({SCHEMAS["audio_vectors"].id: ["0"], "vector": to_lists(vectors)}))
    assert outcome.rows is not None, "align rejects nothing"
    with torch.inference_mode():
        return mapper(torch.from_numpy(to_array(outcome.rows["vector"])))


def _packet(run: Run, pixels: np.ndarray, prompt: str, seed: int) -> bytes:
    options = run.config.options(RenderSectionOptions)
    request = {"prompt": prompt, "seed": seed, "width": pixels.shape[1], "height": pixels.shape[0]}
    request |= options.model_dump(include={"steps", "guidance", "scheduler"})
    return provenance.xmp_packet(*run.revision("diffusion"), prompt, version("aai"), request)
