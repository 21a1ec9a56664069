"""Compare our embeddings with those of `laion-clap`, for random weights of its architectures.

Run by `make parity`: python tests/parity/compare.py PYTHON, where PYTHON has the package.

Vectors of random networks are alike whatever the sound. So beside the cosine the table has the cosine after subtraction
of the package's mean vector, and the smallest distance of two different inputs in multiples of the largest error.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import inputs
import numpy as np

from aai.media import audio
from aai.models.clap import AudioEncoder

MIN_COSINE = 0.9999
MIN_RATIO = 10
"""But for files: after resampling the package rounds to 16 bits, and we do not."""


def main(python: str) -> int:
    print(f"{'model':12}{'input':9}{'n':>4}{'cosine, least':>16}{'centred, least':>16}{'distance / error':>18}")
    failures = 0
    for name in inputs.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, Path(__file__).with_name("reference.py"), folder, name], check=True)
            with np.load(Path(folder, f"{name}.npz")) as reference:
                ours = embed(Path(folder), name)
                failures += sum(not report(name, kind, reference[kind], ours[kind]) for kind in reference.files)
    print("equal" if not failures else f"{failures} rows are not equal: cosines of {MIN_COSINE} are wanted")
    return min(failures, 1)


def embed(folder: Path, name: str) -> Mapping[str, np.ndarray]:
    """Our vectors of the same sounds, files and texts, by the same checkpoint."""
    encoder = AudioEncoder(folder / f"{name}.pt")
    sounds = [inputs.sound(number) for number in range(inputs.NUM)]
    from_data = encoder.embed_clips(sounds, inputs.RATE_HZ, batch_size=4).numpy()
    from_files = []
    for path in sorted(folder.glob("*.wav")):
        recording = audio.decode(path.read_bytes(), str(path), audio.AudioOptions())
        from_files.append(encoder.embed_clips([audio.to_mono(recording.samples)], recording.rate_hz).numpy()[0])
    texts = encoder.embed_texts(inputs.TEXTS).numpy()
    return {"data": from_data, "tensors": from_data, "files": np.stack(from_files), "texts": texts}


def report(name: str, kind: str, wanted: np.ndarray, ours: np.ndarray) -> bool:
    """Print a row of the table; whether the vectors are equal."""
    cosine = _cosines(wanted, ours).min()
    centred = _cosines(wanted - wanted.mean(0), ours - wanted.mean(0)).min()
    distances = np.linalg.norm(wanted[:, None] - wanted, axis=2)[~np.eye(len(wanted), dtype=bool)]
    ratio = distances.min() / np.linalg.norm(wanted - ours, axis=1).max()
    print(f"{name:12}{kind:9}{len(ours):4}{cosine:16.7f}{centred:16.7f}{ratio:18.0f}", flush=True)
    return bool(cosine >= MIN_COSINE and (ratio >= MIN_RATIO or kind == "files"))


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
