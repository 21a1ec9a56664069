"""The photos of a job are known by their contents; one that cannot be used says why."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.jobs.job import Job
from aai.media.images import ImageOptions
from tasks.runtime.photos import decode_photo, find_photos


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    for number, name in enumerate(("a", "b")):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "photos" / f"{name}.png")
    Image.new("RGB", (20, 20), (255, 255, 255)).save(tmp_path / "masks" / "a.png")
    return tmp_path


def job_of(folder: Path, *photos: str, masks: bool = False) -> Job:
    keys = {"mode": "edit", "source_prompt": "a city"}
    return Job(
        name="edit", position="jobs.yaml: job 1", prompts=("a * city",), **keys,
        source_images=[str(folder / name) for name in photos or ("photos",)],
        source_masks=[str(folder / "masks")] if masks else [],
    )  # fmt: skip


def test_photos_come_in_the_order_of_their_paths_with_the_ids_of_their_contents(folder):
    found = find_photos(job_of(folder, "photos/b.png", "photos/a.png"))
    paths = [folder / "photos" / "a.png", folder / "photos" / "b.png"]
    assert [photo.image_uri for photo in found] == list(map(str, paths))
    assert [photo.image_id for photo in found] == [content_id(path.read_bytes()) for path in paths]
    assert {(photo.mask_id, photo.mask_uri, photo.fault) for photo in found} == {(None, None, None)}


@pytest.mark.parametrize("name", ["photos [v2]", "what?", "a::b", "50%", "#1", "~nobody", "back\\slash", "a\nb"])
def test_a_folder_of_any_name_is_taken_literally(folder, name):
    (folder / "photos").rename(folder / name)
    (folder / name / "a.png").rename(folder / name / f"{name}.png")
    photos = find_photos(job_of(folder, name))
    assert {Path(photo.image_uri).name for photo in photos} == {f"{name}.png", "b.png"}
    assert all(photo.fault is None for photo in photos)
    decoded = [decode_photo(photo.image_id, photo.image_uri, ImageOptions()) for photo in photos]
    assert {pixels.shape for pixels in decoded} == {(20, 20, 3)}


def test_what_is_left_aside_beside_photos_is_said(folder, caplog):
    (folder / "photos" / "notes.md").write_text("text")
    (folder / "photos" / "._a.png").write_bytes(b"1")
    assert len(find_photos(job_of(folder))) == 2
    assert caplog.messages == ["jobs.yaml: job 1: source_images: left aside 1 file of other kinds: .md 1"]


def test_a_mask_belongs_to_the_photo_of_its_name_and_a_photo_without_one_has_a_fault(folder):
    with_mask, without = find_photos(job_of(folder, masks=True))
    mask = folder / "masks" / "a.png"
    assert (with_mask.mask_id, with_mask.mask_uri) == (content_id(mask.read_bytes()), str(mask))
    assert "no mask is called b" in without.fault and without.mask_id is None


def test_a_broken_link_is_a_photo_with_a_fault_and_an_id_of_its_path(folder):
    link = folder / "photos" / "c.png"
    link.symlink_to(folder / "nothing.png")
    *_, broken = find_photos(job_of(folder))
    assert "broken link" in broken.fault and broken.image_id == content_id(str(link).encode())


@pytest.mark.parametrize(("name", "key"), [("photos/more.tar", "source_images"), ("masks/a.jpg", "source_masks")])
def test_an_unclear_job_is_refused_with_its_key(folder, name, key):
    (folder / name).write_bytes(b"")
    with pytest.raises(BadConfig, match=f"jobs.yaml: job 1: {key}: "):
        find_photos(job_of(folder, masks=True))


def test_a_photo_is_decoded_and_one_that_is_gone_is_named(folder):
    first, _ = find_photos(job_of(folder))
    pixels = decode_photo(first.image_id, first.image_uri, ImageOptions(min_side_px=1))
    assert np.array_equal(pixels[0, 0], [0, 0, 0])
    Path(first.image_uri).unlink()
    with pytest.raises(BadItem, match="gone") as error:
        decode_photo(first.image_id, first.image_uri, ImageOptions())
    assert error.value.uri == first.image_uri


def test_a_photo_that_changed_is_not_decoded(folder):
    [first, second] = find_photos(job_of(folder))
    Path(first.image_uri).write_bytes(Path(second.image_uri).read_bytes())
    with pytest.raises(BadItem, match="changed .*run `aai render` again") as error:
        decode_photo(first.image_id, first.image_uri, ImageOptions())
    assert error.value.uri == first.image_uri
