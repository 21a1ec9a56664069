"""The sample dataset: contents, metadata, and reproducibility."""

import csv
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from PIL import Image

from aai.media.files import find_files, read_members
from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from aai.tiny.collection import SEED, sample_recordings, write_images, write_sounds
from aai.tiny.training import data
from aai.tiny.vocabulary import PHENOMENA

NUM_CLIPS, NUM_IMAGES = 20, 21


def write(folder: Path, seed: int = SEED) -> Path:
    assert list(write_sounds(folder / "sounds", NUM_CLIPS, seed))[-1] == NUM_CLIPS
    assert list(write_images(folder / "images", NUM_IMAGES, seed))[-1] == NUM_IMAGES
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("collection"))


def test_its_seed_differs_from_training_and_evaluation():
    assert SEED not in (data.TRAINING_SEED, data.JUDGE_SEED, data.HELD_OUT_SEED)


def test_the_demo_has_every_phenomenon_equally_often_from_weak_to_strong():
    clips = [recording.clip for recording in sample_recordings(70)]
    assert Counter(clip.phenomenon for clip in clips) == dict.fromkeys(PHENOMENA, 7)
    levels = sorted(clip.intensity for clip in clips if clip.phenomenon == "rain")
    assert levels[0] < 0.1 and levels[-1] > 0.9 and len(set(levels)) == 7
    assert len({item.background for item in sample_recordings(70) if item.clip.phenomenon == "rain"}) == 5


def test_sounds_have_three_formats_and_the_synthesised_samples(collection):
    found = find_files("audio", [str(collection / "sounds")], AUDIO_SUFFIXES).files
    assert {Path(file.uri).suffix for file in found} == {".wav", ".ogg", ".flac"} and len(found) == NUM_CLIPS
    for recording in sample_recordings(NUM_CLIPS):
        wave, _ = soundfile.read(collection / "sounds" / recording.file, dtype="float32")
        assert np.corrcoef(wave, recording.clip.wave())[0, 1] > 0.95, recording.file


def test_every_sound_has_metadata(collection):
    rows = list(csv.DictReader((collection / "sounds" / "sounds.csv").read_text().splitlines()))
    assert {row["file"]: row["label"] for row in rows} == {
        recording.file: recording.clip.phenomenon for recording in sample_recordings(NUM_CLIPS)
    }
    assert all(0 <= float(row["intensity"]) <= 1 and row["licence"] and row["place"] for row in rows)


def test_images_have_three_formats_loose_and_in_tars(collection):
    loose = [path for path in (collection / "images" / "loose").iterdir() if path.suffix != ".csv"]
    [tar] = (collection / "images").glob("*.tar")
    inside = read_members(str(tar), IMAGE_SUFFIXES).members
    assert len(loose) + len(inside) == NUM_IMAGES
    for names in ([path.name for path in loose], [member.name for member in inside]):
        assert {Path(name).suffix for name in names} == {".jpg", ".png", ".webp"}
    assert all(Image.open(io.BytesIO(path.read_bytes())).size == (64, 64) for path in loose)
    assert all(member.metadata.licence and member.metadata.attributes for member in inside)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves the file open
def test_webdataset_reads_the_tar(collection):
    [tar] = (collection / "images").glob("*.tar")
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False))
    assert len(samples) == NUM_IMAGES // 2
    for sample in samples:
        [kind] = {"jpg", "png", "webp"} & sample.keys()
        assert Image.open(io.BytesIO(sample[kind])).size == (64, 64)
        assert json.loads(sample["json"])["composition"]


def test_the_bytes_depend_on_the_seed_alone(collection, tmp_path):
    first = bytes_of(collection)
    assert bytes_of(write(tmp_path / "again")) == first
    other = bytes_of(write(tmp_path / "other", SEED + 1))
    assert other.keys() == first.keys() and other["sounds/rain-05.ogg"] != first["sounds/rain-05.ogg"]


def test_existing_files_are_kept_and_missing_ones_written(collection, tmp_path):
    folder = write(tmp_path)
    (folder / "sounds" / "rain-05.ogg").write_bytes(b"mine")
    (folder / "images" / "loose" / "00003.jpg").unlink()
    write(folder)
    kept = bytes_of(folder)
    assert kept.pop("sounds/rain-05.ogg") == b"mine"
    assert kept.items() <= bytes_of(collection).items()


def test_tar_members_have_no_time_and_owner(collection):
    [path] = (collection / "images").glob("*.tar")
    with tarfile.open(path) as tar:
        assert {(entry.mtime, entry.uid, entry.uname) for entry in tar} == {(0, 0, "")}
