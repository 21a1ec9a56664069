"""Each clip gets the images nearest to it, from the newest index, whose version its row records."""

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.identity import content_id
from aai.retrieve.neighbours import centre
from aai.workspace.maintenance import remove_artifact
from tasks.fit import CUES
from tasks.index import build_index
from tasks.retrieve import NEIGHBOURS, LabelRetriever, Retriever
from tasks.runtime.outdated import remove_outdated
from tasks.runtime.run import Run
from tasks.views.earlier_images import earlier_images
from tests.bank import CLIPS, DIM, LABELS, add_clips, add_files, append, relabel, rows_of, run_on, unit_vectors
from tests.collection import NUM_CLIPS, build
from tests.collection import run_on as run_on_collection

PLAIN = {"num_neighbours": 3, "diversity": 0, "duplicate_similarity": 1}
NUM_IMAGES = 30
IMAGES = [content_id(b"image %d" % number) for number in range(NUM_IMAGES)]
IMAGE_VECTORS = unit_vectors(NUM_IMAGES)
BIAS = unit_vectors(1, seed=9)
CLIP_VECTORS = unit_vectors(len(CLIPS), seed=1) + 2 * BIAS
CLIP_VECTORS /= np.linalg.norm(CLIP_VECTORS, axis=1, keepdims=True)
"""All clips resemble one direction, as real ones do: that is what centring takes away."""


def add_images(run: Run, first: int, last: int) -> None:
    """Some of the images, with labels in rotation."""
    labels = ["rain", "fire", "snow"]
    files = [
        {"uri": f"/images/{number}.png", "content_id": IMAGES[number], "label": labels[number % 3]}
        for number in range(first, last)
    ]
    add_files(run, "image", files)
    append(run, "images", [{"image_id": id} for id in IMAGES[first:last]])
    rows = [{"image_id": IMAGES[number], "vector": IMAGE_VECTORS[number]} for number in range(first, last)]
    append(run, "image_vectors", rows)


def run_with_index(bank, slice_size: int = 100, **retrieve) -> Run:
    run = run_on(bank, retrieve=PLAIN | retrieve, pool={"num_workers": 0, "slice_size": slice_size})
    add_clips(run)
    add_images(run, 0, NUM_IMAGES)
    rows = [{"clip_id": id, "vector": vector} for id, vector in zip(CLIPS, CLIP_VECTORS, strict=True)]
    append(run, "aligned_vectors", rows)
    build_index(run)
    return run


def nearest(queries: np.ndarray, num: int = 3) -> dict[str, list[str]]:
    """By brute force."""
    order = np.argsort(-(queries @ IMAGE_VECTORS.T), axis=1)[:, :num]
    return {clip: [IMAGES[index] for index in row] for clip, row in zip(CLIPS, order, strict=True)}


def neighbours_of(run: Run) -> dict[str, list[str]]:
    return {row["clip_id"]: row["image_ids"] for row in rows_of(run, "neighbours")}


def test_a_small_bank_gets_the_images_nearest_to_its_vectors(tmp_path):
    run = run_with_index(tmp_path)
    assert run.do(NEIGHBOURS).new == len(CLIPS)
    assert neighbours_of(run) == nearest(CLIP_VECTORS)
    row = rows_of(run, "neighbours")[0]
    vector, ids = CLIP_VECTORS[CLIPS.index(row["clip_id"])], [IMAGES.index(id) for id in row["image_ids"]]
    np.testing.assert_allclose(row["similarities"], IMAGE_VECTORS[ids] @ vector, atol=1e-3)
    assert run.do(NEIGHBOURS).new == 0


def test_queries_of_a_large_enough_bank_are_centred_on_the_mean_of_the_index(tmp_path):
    run = run_with_index(tmp_path, min_bank_clips=len(CLIPS), centring_strength=0.75)
    run.do(NEIGHBOURS)
    centred = nearest(centre(CLIP_VECTORS, CLIP_VECTORS.mean(axis=0), 0.75))
    assert neighbours_of(run) == centred != nearest(CLIP_VECTORS)
    assert Retriever(run_on(tmp_path, retrieve=PLAIN | {"min_bank_clips": len(CLIPS) + 1}).context()).mean is None


def test_a_clip_gets_the_same_images_alone_as_among_others(tmp_path):
    together = run_with_index(tmp_path / "together", min_bank_clips=len(CLIPS))
    together.do(NEIGHBOURS)
    alone = run_with_index(tmp_path / "alone", slice_size=1, min_bank_clips=len(CLIPS))
    alone.do(NEIGHBOURS)
    assert neighbours_of(alone) == neighbours_of(together)


def test_the_version_of_the_index_is_recorded_and_old_rows_stay(tmp_path):
    run = run_on(tmp_path, retrieve=PLAIN)
    add_clips(run)
    rows = [{"clip_id": id, "vector": vector} for id, vector in zip(CLIPS, CLIP_VECTORS, strict=True)]
    for version, (first, last, some) in enumerate(((0, 10, rows[:2]), (10, NUM_IMAGES, rows[2:])), start=1):
        add_images(run, first, last)
        append(run, "aligned_vectors", some)
        build_index(run)
        assert run.do(NEIGHBOURS).new == len(some)
        assert run.workspace.newest_artifact("index", run.recipe("index")).version == version
    found = {row["clip_id"]: row for row in rows_of(run, "neighbours")}
    assert [found[clip]["index_version"] for clip in CLIPS] == [1, 1, 2, 2, 2]
    assert set(found[CLIPS[0]]["image_ids"]) <= set(IMAGES[:10])
    assert found[CLIPS[4]]["image_ids"] == nearest(CLIP_VECTORS)[CLIPS[4]]


def test_clips_that_chose_from_fewer_images_are_counted_until_a_new_round(tmp_path):
    run = run_on(tmp_path, retrieve=PLAIN)
    add_clips(run)
    rows = [{"clip_id": id, "vector": vector} for id, vector in zip(CLIPS, CLIP_VECTORS, strict=True)]
    for first, last, some in ((0, 10, rows[:2]), (10, 20, rows[2:3]), (20, NUM_IMAGES, rows[3:])):
        add_images(run, first, last)
        append(run, "aligned_vectors", some)
        build_index(run)
        run.do(NEIGHBOURS)
        assert bool(earlier_images(run)) == bool(first)
    [sentence] = earlier_images(run)
    assert sentence.startswith(
        "3 of 5 clips chose their images from 10 to 20, and there are 30 now: `retrieve.round: 2`"
    )
    [sentence] = earlier_images(run, num_coming=7)
    assert sentence.startswith("5 of 5 clips chose their images from 10 to 30, and after this build there are up to 37")
    remove_artifact(run.workspace.artifact("index", run.recipe("index"), version=1))
    assert "from 20, and there are" in earlier_images(run)[0]
    again = run_on(tmp_path, retrieve=PLAIN | {"round": 2})
    assert again.do(NEIGHBOURS).new == len(CLIPS) and earlier_images(again) == []
    assert neighbours_of(again) == nearest(CLIP_VECTORS)


def test_the_first_round_is_not_part_of_the_recipe(tmp_path):
    first, second = (run_on(tmp_path, retrieve=PLAIN | {"round": number}).recipe("neighbours") for number in (1, 2))
    assert first == run_on(tmp_path, retrieve=PLAIN).recipe("neighbours") != second


def test_without_an_index_the_stage_does_not_start(tmp_path):
    run = run_on(tmp_path)
    with pytest.raises(BadConfig, match="there is no index of them yet: run `aai build`") as error:
        Retriever(run.context())
    assert error.value.key == "images"


def test_by_label_a_clip_gets_any_images_with_its_label(tmp_path):
    run = run_with_index(tmp_path, method="label")
    done = run.do(NEIGHBOURS)
    assert (done.new, done.rejected) == (len(CLIPS) - 1, 1), "one has no label"
    labels = dict(zip(CLIPS, LABELS, strict=True))
    for clip_id, ids in neighbours_of(run).items():
        assert len(set(ids)) == 3
        assert {["rain", "fire", "snow"][IMAGES.index(image_id) % 3] for image_id in ids} == {labels[clip_id]}
    found = neighbours_of(run)
    assert found[CLIPS[0]] != found[CLIPS[2]], "the same label, another sample"
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert reject["id"] == CLIPS[4] and "it has no label" in reject["sentence"]


def test_by_label_corrected_labels_take_effect_on_the_rows_concerned(tmp_path):
    run = run_with_index(tmp_path, method="label")
    run.do(NEIGHBOURS)
    before, labels = neighbours_of(run), dict(zip(CLIPS, LABELS, strict=True))
    relabel(run, "audio", {"/sounds/1.flac": "snow", "/sounds/4.flac": "rain", "/sounds/3.flac": "hail"})
    labels |= {CLIPS[1]: "snow", CLIPS[4]: "rain"}
    chosen = IMAGES.index(before[CLIPS[0]][0])
    relabel(run, "image", {f"/images/{chosen}.png": "fire"})
    concerned = {0, 1, 3, 4} | ({2} if IMAGES[chosen] in before[CLIPS[2]] else set())
    assert run.pending(NEIGHBOURS).num == len(concerned)
    done = run.do(NEIGHBOURS)
    assert done.rejected == 1
    after = neighbours_of(run)
    assert CLIPS[3] not in after and after[CLIPS[1]] != before[CLIPS[1]] and len(after) == len(CLIPS) - 1
    for clip_id, ids in after.items():
        found = {
            "fire" if image == IMAGES[chosen] else ["rain", "fire", "snow"][IMAGES.index(image) % 3] for image in ids
        }
        assert found == {labels[clip_id]}
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert reject["id"] == CLIPS[3] and 'no image has its label "hail"' in reject["sentence"]
    assert run.do(NEIGHBOURS).new == run.do(NEIGHBOURS).rejected == 0


def test_by_label_cues_and_pictures_of_relabelled_clips_are_made_again(tmp_path):
    run = run_with_index(tmp_path, method="label")
    run.do(NEIGHBOURS)
    neighbours = neighbours_of(run)
    cues = [
        {"clip_id": id, "vector": [0.0] * 2 * DIM, "seed": 0, "image_ids": ids[:2]} for id, ids in neighbours.items()
    ]
    append(run, "cues", cues)
    pictures = {"a": [CLIPS[0]], "b": [CLIPS[0], CLIPS[1]], "c": [CLIPS[2]], "d": []}
    where = {"shard": "s.tar", "key": "k", "offset": 0, "num_bytes": 1, "checksum": "c"}
    append(run, "renders", [{"render_id": id, "clip_ids": clips} | where for id, clips in pictures.items()])
    append(run, "scores", [{"render_id": id, "metric": "m", "value": 1.0} for id in pictures])
    relabel(run, "audio", {"/sounds/1.flac": "snow", "/sounds/3.flac": None})
    run.do(NEIGHBOURS)
    remove_outdated(run, CUES)
    assert [row["clip_id"] for row in rows_of(run, "cues")] == sorted([CLIPS[0], CLIPS[2]])
    assert [row["render_id"] for row in rows_of(run, "renders")] == ["a", "c", "d"]
    assert [row["render_id"] for row in rows_of(run, "scores")] == ["a", "c", "d"]


def test_by_label_the_seed_of_the_run_chooses_the_images(tmp_path):
    run = run_with_index(tmp_path, method="label")
    run.do(NEIGHBOURS)
    same = LabelRetriever(run.context())
    assert all(
        same._choose(clip, label) == neighbours_of(run)[clip] for clip, label in zip(CLIPS[:4], LABELS, strict=False)
    )
    other = run_on(tmp_path, retrieve=PLAIN | {"method": "label"}, seed=1)
    assert other.recipe("neighbours") != run.recipe("neighbours")


def test_a_clip_whose_label_no_image_has_is_rejected(collection):
    table = collection / "said.csv"
    table.write_text(table.read_text().replace("rain-0.2.flac,rain", "rain-0.2.flac,drizzle"))
    run = run_on_collection(collection, retrieve={"method": "label", "num_neighbours": 2})
    done = build(run, until="retrieve")["retrieve"]
    assert (done.new, done.rejected) == (NUM_CLIPS - 1, 1)
    [reject] = run.workspace.table("rejects").read(recipe=run.recipe("neighbours")).to_pylist()
    assert 'no image has its label "drizzle"' in reject["sentence"] and reject["uri"].endswith("rain-0.2.flac")


def test_of_the_tiny_world_the_nearest_images_show_the_phenomenon_of_the_clip(shared_collection):
    run = run_on_collection(shared_collection)
    with run.query() as query:
        clips = dict(query.table("SELECT clip_id, label FROM present_clips").to_pandas().to_numpy())
        images = dict(query.table("SELECT image_id, label FROM present_images").to_pandas().to_numpy())
    assert all(images[row["image_ids"][0]] == clips[row["clip_id"]] for row in rows_of(run, "neighbours"))
