"""Embedding of images and audio, from files on disk to rows in the table."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import AutoProcessor, ClapModel, CLIPModel

from aai.media.files import read_content
from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from bench.gpu.bank import add_clips, add_images
from bench.gpu.rows import Measured
from bench.gpu.setting import Setting, count_of, rate_of, tried, watched
from bench.gpu.sources import Member, write_tar, write_waves
from tasks.embed import AUDIO_VECTORS, IMAGE_VECTORS
from tasks.runtime.process import num_threads
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_PEER_BATCH = 64
_PEER_IS = "DataLoader and processor in a process per core"
_PEER_PATIENCE_S = 30


def measure(setting: Setting) -> Iterator[Measured]:
    """The rows `embed_images` and `embed_audio`; then both again, with what is beside them."""
    images, tar = _images(setting)
    yield images
    audio, files = _audio(setting)
    yield audio
    for measured, members, peer, alone in (
        (images, tar, _images_by_library, _image_model),
        (audio, files, _audio_by_library, _audio_model),
    ):
        measured.peer_is, measured.alone_is = _PEER_IS, "prepared items on the device"
        measured.alone = tried(measured, "model alone", partial(alone, setting))
        measured.peer = tried(measured, "peer", partial(peer, setting, members))
        yield measured


def _images(setting: Setting) -> tuple[Measured, list[Member]]:
    """What was measured, and the images of one tar."""
    sizes, run = setting.sizes, setting.open("images")
    folder = setting.folder / "tars"
    folder.mkdir()
    tars = [write_tar(folder / f"{seed}.tar", sizes.images, seed) for seed in range(sizes.repetitions + 1)]
    adds = [partial(add_images, run, members) for members in tars]
    return _stage(Measured("embed_images", num_items=sizes.images), run, IMAGE_VECTORS, adds), tars[0]


def _audio(setting: Setting) -> tuple[Measured, list[Member]]:
    """What was measured, and the recordings of one repetition."""
    sizes = setting.sizes
    run = setting.open("audio", ingest={"audio": {"window_s": sizes.duration_s, "hop_s": sizes.duration_s}})
    num = sizes.recordings
    files = write_waves(setting.folder / "waves", num * (sizes.repetitions + 1), sizes.duration_s, sizes.rate_hz)
    parts = [files[first : first + num] for first in range(0, len(files), num)]
    adds = [partial(add_clips, run, part, sizes.duration_s) for part in parts]
    return _stage(Measured("embed_audio", num_items=num), run, AUDIO_VECTORS, adds), parts[0]


def _stage(measured: Measured, run: Run, stage: Stage, adds: Sequence[Callable[[], object]]) -> Measured:
    """Run a stage each time that items were added; the first time the model is loaded and nothing is measured."""
    adds[0]()
    count_of(run.do(stage))
    with watched(measured):
        for add in adds[1:]:
            add()
            summary = run.do(stage)
            measured.values.append(count_of(summary) / summary.took_s)
    run.close()
    return measured


class _Items(Dataset):
    """Files as a user of the libraries reads them: to what the model takes, in the processes of a `DataLoader`."""

    def __init__(self, members: Sequence[Member], prepare: Callable[[bytes], torch.Tensor]) -> None:
        self._members, self._prepare = members, prepare

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> torch.Tensor:
        member = self._members[index]
        return self._prepare(read_content(member.uri, member.offset, member.num_bytes, member.content_id))


def _by_library(
    setting: Setting, members: Sequence[Member], prepare: Callable[[bytes], torch.Tensor], embed: Callable[..., Any]
) -> float:
    """Items per second."""
    processes = 0 if setting.is_small else num_threads()
    loader = DataLoader(
        _Items(members, prepare),
        _PEER_BATCH,
        num_workers=processes,
        pin_memory=not setting.is_small,
        timeout=_PEER_PATIENCE_S if processes else 0,
    )

    @torch.inference_mode()
    def work() -> None:
        parts = [embed(batch.to(setting.device, setting.dtype, non_blocking=True)).pooler_output for batch in loader]
        torch.cat(parts).float().cpu()

    return rate_of(len(members), work, repetitions=1, warm_ups=0)


def _images_by_library(setting: Setting, members: Sequence[Member]) -> float:
    folder = setting.model("clip")
    model = CLIPModel.from_pretrained(folder, dtype=setting.dtype).to(setting.device).eval()
    processor = AutoProcessor.from_pretrained(folder).image_processor

    def prepare(data: bytes) -> torch.Tensor:
        return processor(Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="pt")["pixel_values"][0]

    return _by_library(setting, members, prepare, lambda batch: model.get_image_features(pixel_values=batch))


def _audio_by_library(setting: Setting, members: Sequence[Member]) -> float:
    folder = setting.model("clap")
    model = ClapModel.from_pretrained(folder, dtype=setting.dtype).to(setting.device).eval()
    extractor = AutoProcessor.from_pretrained(folder).feature_extractor

    def prepare(data: bytes) -> torch.Tensor:
        wave, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
        return extractor(wave, sampling_rate=rate_hz, return_tensors="pt")["input_features"][0]

    def embed(batch: torch.Tensor) -> Any:
        not_longer = torch.zeros(len(batch), 1, dtype=torch.bool, device=batch.device)
        return model.get_audio_features(input_features=batch, is_longer=not_longer)

    return _by_library(setting, members, prepare, embed)


def _image_model(setting: Setting) -> float:
    encoder = ImageTextEncoder(setting.model("clip"), device=setting.device, dtype=setting.dtype)
    side, num = encoder.model.config.vision_config.image_size, 4 * setting.sizes.at_once
    images = torch.randint(256, (num, 3, side, side), dtype=torch.uint8, device=setting.device)
    return rate_of(num, lambda: encoder.embed_prepared(images))


def _audio_model(setting: Setting) -> float:
    encoder = AudioEncoder(setting.model("clap"), device=setting.device, dtype=setting.dtype)
    num, length = 4 * setting.sizes.at_once, round(encoder.duration_s * encoder.rate_hz)
    waves = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (num, length)).astype(np.float32))
    waves = waves.to(setting.device)
    return rate_of(num, lambda: encoder.embed_prepared(waves))
