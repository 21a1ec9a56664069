"""Edits on the shipped weights: jobs with sources become pictures, and photos keep the rest of their pixels."""

import io
import json
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path
from threading import Event, current_thread

import pytest
from PIL import Image

from aai.errors import BadConfig
from aai.workspace.shards import read_picture
from tasks import edit
from tasks.render import Renderer, render
from tasks.render_source import RenderSource
from tasks.runtime.photos import Photo
from tasks.runtime.run import Run
from tests.bank import GENERATED, add_cues, jobs_of, json_of, rows_of, run_on
from tests.tasks.edits import SIZES, ids_of, plan_of, rejects_of, scene, seen, source_rows, write_mask, write_photos

COMPOSITE = GENERATED.replace(b"trained", b"compositeWithTrained")
GENERATED_EDIT = {"mode": "edit", "source_prompt": "a city", "prompt": "a * city", "limit": 2}
PHOTO_EDIT = GENERATED_EDIT | {"limit": 1}
STYLE = {"mode": "stylise", "source_prompt": "a forest", "prompt": "a forest in the style of *", "limit": 1}


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


@pytest.fixture
def photos(tmp_path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Good photos, one of them under two names, one that is cut short and one without a mask."""
    folder = tmp_path_factory.mktemp("edited")
    photos = write_photos(folder / "photos")
    (photos / "again.png").write_bytes((photos / "tall.png").read_bytes())
    (photos / "cut.jpg").write_bytes((photos / "wide.jpg").read_bytes()[:900])
    (photos / "nowhere.png").symlink_to(folder / "nothing.png")
    for name in ("wide", "tall", "turned", "cut", "nowhere"):
        sides = {"wide": (200, 120), "tall": (45, 150), "turned": (100, 160)}.get(name, (8, 8))
        write_mask(folder / "masks" / f"{name}.png", sides)
    return folder


@pytest.fixture(scope="module")
def jobs(folder) -> list[dict]:
    """Every mode; of the photos that cannot be used, each job has its own rejects."""
    photos, masks = str(folder / "photos"), str(folder / "masks")
    some = [f"{photos}/{name}" for name in ("tall.png", "wide.jpg")]
    return [
        {"name": "plain", "limit": 1},
        GENERATED_EDIT | {"name": "generated", "seeds": 2},
        PHOTO_EDIT | {"name": "found", "source_images": photos},
        PHOTO_EDIT | {"name": "masked", "source_images": photos, "source_masks": masks, "prompt": "a * city at night"},
        STYLE | {"name": "style", "source_images": some, "seeds": 2, "edit": {"inversion": "virtual"}},
        STYLE | {"name": "generated style"},
        STYLE | {"name": "style alone", "source_prompt": None},
    ]


@pytest.fixture(scope="module")
def edited(tmp_path_factory, jobs) -> Run:
    """All of that, rendered: to be left as it is."""
    run = add_cues(run_on(tmp_path_factory.mktemp("work") / "bank"))
    render(run, jobs_of(run, *jobs))
    return run


def of_job(run: Run, name: str) -> list[dict]:
    return [row for row in rows_of(run) if row["job"] == name]


def test_all_modes_are_rendered_once(edited, jobs):
    counts = {name: len(of_job(edited, name)) for name in (job["name"] for job in jobs)}
    assert counts == {
        "plain": 1, "generated": 4, "found": 3, "masked": 3, "style": 4, "generated style": 1, "style alone": 1
    }  # fmt: skip
    again = jobs_of(edited, *jobs)
    assert plan_of(edited, again).new == 0
    done = render(edited, again)
    assert (done.new, done.done, len(rows_of(edited))) == (0, 17 + 5, 17)


def test_photos_that_cannot_be_used_are_rejected_with_the_reason(edited, folder):
    photos = folder / "photos"
    rejects = {(Path(row["uri"]).name, row["sentence"].removeprefix(f"{row['uri']}: ")) for row in rejects_of(edited)}
    assert {row["error"] for row in rejects_of(edited)} == {"BadItem"} and len(rejects_of(edited)) == 5
    assert ("nowhere.png", "a broken link: put the file there, or delete the link") in rejects
    assert ("again.png", "no mask is called again: add one, or leave the photo out") in rejects
    assert any(name == "cut.jpg" and "cut short" in sentence for name, sentence in rejects)
    assert {row["uri"] for row in rejects_of(edited)} == {
        str(photos / name) for name in ("nowhere.png", "again.png", "cut.jpg")
    }


def test_photos_come_back_at_their_own_sizes_and_upright(edited):
    for job in ("found", "masked"):
        sizes = {(row["width"], row["height"]) for row in of_job(edited, job)}
        assert sizes == {(200, 120), (90, 300), (100, 160)}
    for row in of_job(edited, "found"):
        assert seen(read_picture(edited.workspace, row)).shape == (row["height"], row["width"], 3)
    assert {(row["width"], row["height"]) for row in of_job(edited, "style")} == {(200, 120), (90, 300)}
    assert {(row["width"], row["height"]) for row in of_job(edited, "generated")} == {(64, 64)}


def test_outside_a_mask_the_pixels_are_the_photos_own(edited):
    for row in of_job(edited, "masked"):
        photo = seen(Path(row["image_uri"]).read_bytes())
        picture = seen(read_picture(edited.workspace, row))
        edge = row["width"] * 2 // 3
        assert (picture[:, : edge - 2] == photo[:, : edge - 2]).all()
        changed = (picture[:, edge + 2 :] != photo[:, edge + 2 :]).any(axis=2)
        assert changed.mean() > 0.5, Path(row["image_uri"]).name


def test_without_a_mask_pixels_that_are_not_edited_are_the_photos_own(edited):
    for row in of_job(edited, "found"):
        same = seen(Path(row["image_uri"]).read_bytes()) == seen(read_picture(edited.workspace, row))
        assert 0.1 < same.all(axis=2).mean() < 1, Path(row["image_uri"]).name


def test_one_photo_under_two_names_is_one_picture(edited, folder):
    [row] = [row for row in of_job(edited, "found") if row["width"] == 90]
    assert Path(row["image_uri"]).name == "again.png"
    assert (folder / "photos" / "tall.png").read_bytes() == Path(row["image_uri"]).read_bytes()


def test_table_json_and_xmp_name_the_source_of_a_picture(edited):
    for row in rows_of(edited):
        stored = json_of(edited, row)
        xmp = Image.open(io.BytesIO(read_picture(edited.workspace, row))).info["xmp"]
        kind = COMPOSITE if row["image_id"] else GENERATED
        assert kind in xmp and stored["digital_source_type"] == kind.decode()
        assert stored["mode"] == row["mode"]
        keys = {"source_prompt", "edit", "image_id"}
        assert {key: stored[key] for key in keys} == {key: row[key] or "" for key in keys}
        assert row["clip_ids"][0].encode() in xmp
    masked, style = of_job(edited, "masked")[0], of_job(edited, "style")[0]
    assert (masked["mode"], masked["source_prompt"], masked["scheduler"]) == ("edit", "a city", "ddim")
    assert json.loads(masked["edit"])["preserve"] == "pixels" and masked["image_id"]
    stored = json_of(edited, masked)
    assert len(stored["mask_id"]) == len(stored["image_id"]) == 32
    assert style["mode"] == "stylise" and json.loads(style["edit"])["inversion"] == "virtual"
    assert {row["source_prompt"] for row in of_job(edited, "style alone")} == {None}
    xmp = Image.open(io.BytesIO(read_picture(edited.workspace, masked))).info["xmp"].decode()
    assert masked["image_id"] in xmp and "a city" in xmp and "self_fraction" in xmp
    assert str(Path(masked["image_uri"]).parent) not in xmp


def test_a_mask_of_another_shape_is_refused(run, photos, tmp_path):
    scene("city", 3).resize((120, 60)).save(photos / "wide.jpg")
    write_mask(tmp_path / "masks" / "wide.png", (60, 60))
    job = PHOTO_EDIT | {"source_images": str(photos / "wide.jpg"), "source_masks": str(tmp_path / "masks")}
    [reject] = Renderer(run.context())(source_rows(run, job | {"limit": 1})).rejects
    assert "the mask has 60 x 60 pixels and the photo 120 x 60" in reject.sentence


def test_a_photo_that_is_gone_or_changed_is_rejected_and_the_others_are_edited(run, photos):
    rows = source_rows(run, PHOTO_EDIT | {"source_images": str(photos)})
    (photos / "wide.jpg").unlink()
    scene("field", 9).save(photos / "tall.png")
    outcome = Renderer(run.context())(rows)
    assert [Path(uri).name for uri in outcome.rows["image_uri"].to_pylist()] == ["turned.jpg"]
    sentences = {reject.uri: reject.sentence for reject in outcome.rejects}
    assert sentences.keys() == {str(photos / "wide.jpg"), str(photos / "tall.png")}
    assert "gone" in sentences[str(photos / "wide.jpg")] and "changed" in sentences[str(photos / "tall.png")]


def test_a_photo_too_long_for_its_format_is_rejected_with_a_sentence(run, tmp_path):
    Image.new("RGB", (16_384, 16)).save(tmp_path / "long.png")
    outcome = Renderer(run.context())(
        source_rows(run, PHOTO_EDIT | {"source_images": f"{tmp_path}/*.png", "format": "webp"})
    )
    [reject] = outcome.rejects
    assert reject.uri == f"{tmp_path}/long.png"
    assert reject.sentence == "a side is longer than the 16383 pixels of a WebP: set format to png or jpg"


def test_a_repaired_photo_is_another_picture(run, photos):
    job = PHOTO_EDIT | {"source_images": str(photos)}
    (photos / "wide.jpg").write_bytes(b"no picture")
    before = ids_of(run, job)
    scene("city", 0).save(photos / "wide.jpg")
    after = ids_of(run, job)
    assert len(before) == len(after) == 3 and len(before & after) == 2


@pytest.mark.parametrize(
    ("added", "key", "uri", "sentence"),
    [
        ("photos/more.tar", "source_images", "photos/more.tar", "photos are not read from tars"),
        ("masks/more.tar", "source_masks", "masks/more.tar", "photos are not read from tars"),
        ("masks/wide.jpg", "source_masks", "masks/wide.png", "two masks are called wide: leave one out"),
    ],
)
def test_an_unclear_job_stops_before_anything_is_rendered(run, photos, added, key, uri, sentence):
    folder = photos.parent
    write_mask(folder / "masks" / "wide.png", (8, 8))
    (folder / added).write_bytes(b"")
    job = PHOTO_EDIT | {"source_images": str(photos), "source_masks": str(folder / "masks")}
    with pytest.raises(BadConfig, match=sentence) as error:
        plan_of(run, jobs_of(run, job))
    assert (error.value.key, error.value.uri) == (f"jobs: job 1: {key}", str(folder / uri))


def test_a_location_without_photos_is_named(run, tmp_path):
    with pytest.raises(BadConfig, match="job 1: source_images: .*/none does not exist: name a folder"):
        plan_of(run, jobs_of(run, PHOTO_EDIT | {"source_images": str(tmp_path / "none")}))


def test_a_mask_that_was_found_is_written_beside_its_picture(run, photos):
    job = PHOTO_EDIT | {"source_images": f"{photos}/wide.jpg", "steps": 2}
    render(run, jobs_of(run, job, job | {"edit": {"write_mask": True}}))
    rows = rows_of(run)
    [masked] = [row for row in rows if "write_mask" in row["edit"]]
    assert len(rows) == 2 and rows[0]["mask_share"] == rows[1]["mask_share"] and 0 < masked["mask_share"] <= 1
    assert Path(masked["shard"]).name.startswith("masked-png-")
    with tarfile.open(run.workspace.store.path(masked["shard"])) as tar:
        assert [entry.name for entry in tar] == [f"{masked['key']}.{suffix}" for suffix in ("png", "mask.png", "json")]
        mask = seen(tar.extractfile(f"{masked['key']}.mask.png").read())
    photo, picture = seen((photos / "wide.jpg").read_bytes()), seen(read_picture(run.workspace, masked))
    assert mask.shape == photo.shape and ((picture == photo) | (mask > 0)).all()


@pytest.mark.parametrize(
    "change",
    [{"edit": {"strength": 0.5}}, {"edit": {"guide_from": "source"}}, {"edit": {"write_mask": True}},
      {"edit": {"reweight": {"city": 2}}}, {"source_prompt": "the city"},
     {"mode": "stylise", "edit": {"preserve": "pixels"}}, "photos/one.png", "masks/one.png"],
    ids=str,
)  # fmt: skip
def test_a_change_of_the_edit_makes_another_picture(run, tmp_path, change):
    (tmp_path / "photos").mkdir()
    scene("city", 0).save(tmp_path / "photos" / "one.png")
    write_mask(tmp_path / "masks" / "one.png", (64, 64))
    job = PHOTO_EDIT | {"source_images": str(tmp_path / "photos"), "source_masks": str(tmp_path / "masks")}
    [before] = ids_of(run, job)
    if isinstance(change, str):
        path, change = tmp_path / change, {}
        path.write_bytes(path.read_bytes() + b"more")
    [after] = ids_of(run, job | change)
    assert before != after


def test_a_photo_that_was_moved_is_the_same_picture(run, photos):
    job = PHOTO_EDIT | {"source_images": str(photos)}
    before = ids_of(run, job)
    moved = photos.rename(photos.with_name("elsewhere"))
    (moved / "wide.jpg").rename(moved / "another.jpg")
    after = ids_of(run, job | {"source_images": f"{moved}/*"})
    assert after == before and len(before) == 3


def test_photos_and_generated_sources_give_different_pictures(run, photos):
    rows = source_rows(run, GENERATED_EDIT, PHOTO_EDIT | {"source_images": str(photos)})
    assert rows["image_id"].null_count == 2 and rows.num_rows == 2 + 3


def test_seeds_matter_for_photos_under_virtual_inversion_alone(run, photos):
    job = STYLE | {"source_images": str(photos / "wide.jpg")}
    assert source_rows(run, job)["seed"].to_pylist() == [0]
    assert source_rows(run, job | {"seeds": [4, 5], "edit": {"inversion": "virtual"}})["seed"].to_pylist() == [4, 5]


class Counted:
    """Counts the rows of a UNet."""

    def __init__(self, predict) -> None:
        self.num_rows, self.predict = 0, predict

    def __call__(self, noisy, *others):
        self.num_rows += len(noisy)
        return self.predict(noisy, *others)


def test_pictures_of_one_source_come_together_and_share_it(run, photos, monkeypatch):
    """Two steps without guidance: a row for each source and each edit in each; a photo is inverted in two more."""
    (photos / "turned.jpg").unlink()
    prompts = {"prompt": ["a * city", "the * city"], "limit": 2, "edit": {"inversion": "direct"}}
    of_photos = source_rows(run, PHOTO_EDIT | prompts | {"source_images": str(photos)})
    of_seeds = source_rows(run, GENERATED_EDIT | prompts | {"seeds": [3, 8]})
    assert of_seeds["seed"].to_pylist() == [3] * 4 + [8] * 4
    renderer = Renderer(run.context())
    renderer.sizes.fixed = 4
    counted = Counted(renderer.diffusion.predict)
    monkeypatch.setattr(renderer.diffusion, "predict", counted)  # tests share the model
    assert renderer(of_seeds).rows.num_rows == 8
    assert counted.num_rows == 2 * 2 * (1 + 4)
    counted.num_rows = 0
    assert renderer(of_photos).rows.num_rows == 8
    assert counted.num_rows == 2 * (2 + 2 * (1 + 4))
    counted.num_rows, renderer.sizes.fixed = 0, 2
    assert (renderer(of_photos).rows.num_rows, counted.num_rows) == (8, 4 * 2 * (1 + 2)), "inverted before"


def test_the_prompts_of_an_edit_and_its_source_are_filled_with_the_metadata_of_the_clip(run):
    job = GENERATED_EDIT | {"prompt": "a * {label}", "source_prompt": "a {label} city", "limit": None}
    rows = source_rows(run, job).to_pylist()
    assert {row["source_prompt"] for row in rows if not row["fault"]} == {"a rain city", "a fire city", "a snow city"}
    assert "has no label" in next(row["fault"] for row in rows if row["fault"])


def test_a_prompt_without_a_cue_edits_with_the_plain_model(run, photos):
    job = PHOTO_EDIT | {"prompt": "a city at night", "limit": None, "source_images": str(photos / "wide.jpg")}
    assert render(run, jobs_of(run, job)).new == 1 and rejects_of(run) == []
    [row] = rows_of(run)
    assert (row["clip_ids"], row["width"], row["height"]) == ([], 200, 120)


def test_many_edits_are_never_a_list(run, monkeypatch):
    """The photos are given; what else it takes to count 2,500 edits of them is less than an object for each."""
    found = [Photo(f"{number:032x}", f"/photos/{number}.jpg") for number in range(500)]
    monkeypatch.setattr("tasks.combinations.find_photos", lambda job: found)
    monkeypatch.setattr("tasks.combinations.COMBINATIONS_AT_ONCE", 500)
    monkeypatch.setattr("tasks.render_source.COMBINATIONS_AT_ONCE", 500)
    source = RenderSource(run, jobs_of(run, PHOTO_EDIT | {"source_images": "/photos", "limit": 5}))
    tracemalloc.start()
    try:
        pending = source.pending()
        assert pending.num == 2_500 and next(iter(pending.rows)).num_rows
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_a_photo_that_is_away_for_a_moment_is_edited_by_the_next_run(run, photos):
    away = photos / "wide.jpg"
    jobs = jobs_of(run, PHOTO_EDIT | {"prompt": "a city at night", "limit": None, "source_images": str(away)})
    source = RenderSource(run, jobs)
    assert source.pending().num == 1
    away.rename(photos / "elsewhere")
    with pytest.raises(BadConfig, match="put it back"):  # all items of the stage are rejected
        render(run, jobs, source)
    (photos / "elsewhere").rename(away)
    assert render(run, jobs).new == 1
    assert (RenderSource(run, jobs).pending().num, RenderSource(run, jobs).pending().rejected) == (0, 0)


def test_photos_are_opened_ahead_of_the_model_in_threads_and_once_each(run, photos, monkeypatch):
    """The model edits nothing before all three photos are open."""
    opened, all_open, decode_photo = Counter(), Event(), edit.decode_photo

    def counted(key, uri, options):
        assert current_thread().name.startswith("loader")
        opened[Path(uri).name] += 1
        all_open.set() if len(opened) == len(SIZES) else None
        return decode_photo(key, uri, options)

    def patient(editor, *given):
        assert all_open.wait(60)
        return from_photos(editor, *given)

    from_photos = edit.Editor.from_photos
    monkeypatch.setattr(edit, "decode_photo", counted)
    monkeypatch.setattr(edit.Editor, "from_photos", patient)
    (renderer := Renderer(run.context())).sizes.fixed = 1
    rows = source_rows(run, PHOTO_EDIT | {"prompt": ["a * city", "the * city"], "source_images": str(photos)})
    assert renderer(rows).rows.num_rows == 6
    assert opened == dict.fromkeys(SIZES, 1)
