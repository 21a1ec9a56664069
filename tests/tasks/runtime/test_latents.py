"""Images become latents once, however many clips share them; what cannot be read is rejected as a part of its clip."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from aai.errors import Transient
from aai.identity import image_id
from aai.media.images import ImageOptions, encode
from aai.models.diffusion import load_diffusion
from aai.tiny.scenes import render as paint
from aai.tiny.scenes import sample_scenes
from aai.tiny.world import WEIGHTS
from tasks.runtime import latents
from tasks.runtime.latents import Latents

NUM = 4


@pytest.fixture(scope="module")
def diffusion():
    return load_diffusion(WEIGHTS / "pipeline")


@pytest.fixture
def files(tmp_path) -> list[dict]:
    """Images as rows have them."""
    found = []
    for number, pixels in enumerate(paint(sample_scenes(NUM, 3)).pixels):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encode(pixels, "png"))
        found.append({"image_id": image_id(path.read_bytes()), "uri": str(path), "offset": None, "num_bytes": None})
    return found


def rows_of(*clips: list[dict]) -> pa.Table:
    rows = [
        {"clip_id": f"clip {number}", "uri": f"{number}.wav", "vector": [1.0, 0.0], "images": images}
        for number, images in enumerate(clips)
    ]
    return pa.Table.from_pylist(rows)


def test_a_clip_has_the_latents_of_its_images_in_their_order(files, diffusion):
    rejects = []
    [clip] = Latents(ImageOptions(), diffusion).clips(rows_of([files[2], files[0]]), rejects)
    assert clip.image_ids == (files[2]["image_id"], files[0]["image_id"]) and rejects == []
    pixels = np.stack(paint(sample_scenes(NUM, 3)).pixels)[[2, 0]].transpose(0, 3, 1, 2)
    expected = diffusion.encode_images(torch.from_numpy(pixels).float() / 127.5 - 1)
    torch.testing.assert_close(clip.latents, expected, atol=1e-4, rtol=1e-4)


def test_an_image_that_clips_share_is_read_once(files, diffusion, monkeypatch):
    opened, read = [], latents.read_content
    monkeypatch.setattr(latents, "read_content", lambda uri, *others: opened.append(uri) or read(uri, *others))
    clips = Latents(ImageOptions(), diffusion).clips(rows_of(files[:2], files[1:3], files[:3]), [])
    assert sorted(opened) == sorted(file["uri"] for file in files[:3])
    assert torch.equal(clips[0].latents[1], clips[1].latents[0])
    assert torch.equal(clips[2].latents[:2], clips[0].latents)


def test_the_cache_is_bounded(files, diffusion, monkeypatch):
    monkeypatch.setattr(latents, "_MAX_CACHED", 2)
    reader = Latents(ImageOptions(), diffusion)
    clips = reader.clips(rows_of(files, files[1:]), [])
    assert len(reader._cache) == 2 and [len(clip.latents) for clip in clips] == [NUM, NUM - 1]
    torch.testing.assert_close(clips[0].latents[1:], clips[1].latents, atol=1e-4, rtol=1e-4)


def test_an_unreadable_image_is_a_rejected_part_and_the_clip_has_the_others(files, diffusion):
    Path(files[0]["uri"]).unlink()
    rejects = []
    [clip] = Latents(ImageOptions(), diffusion).clips(rows_of(files[:2]), rejects)
    assert clip.image_ids == (files[1]["image_id"],) and len(clip.latents) == 1
    [part] = rejects
    assert (part.id, part.part_of, part.uri) == (files[0]["image_id"], "clip 0", files[0]["uri"])


def test_a_clip_without_any_readable_image_is_rejected_itself(files, diffusion):
    files[0]["uri"] = None
    Path(files[1]["uri"]).write_bytes(b"another content")
    rejects = []
    [clip] = Latents(ImageOptions(), diffusion).clips(rows_of(files[:2], files[2:]), rejects)
    assert clip.clip_id == "clip 1"
    [reject] = rejects
    assert (reject.id, reject.part_of, reject.uri) == ("clip 0", None, "0.wav")
    assert "none of its 2 images can be read (the image is no longer in the source folders): put" in reject.sentence


def test_a_store_that_fails_is_no_fault_of_an_image(files, diffusion, monkeypatch):
    def fail(*location):
        raise Transient("the store failed")

    monkeypatch.setattr(latents, "read_content", fail)
    with pytest.raises(Transient):
        Latents(ImageOptions(), diffusion).clips(rows_of(files), [])
