"""Pairs are found by name, in tars and by tables, and split so that nothing is on both sides."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors
from aai.align.train_options import PairOptions
from aai.errors import BadConfig
from aai.identity import content_id
from tasks.aligner.pairs import chosen_frames, facts_of, find_pairs
from tasks.aligner.split import split
from tasks.aligner.tables import USED, folders_of, read_table, unused_columns
from tasks.aligner.unpaired import refused
from tests.bank import add_files, add_listing, append, run_on

FOLDER = PairOptions(folder="x")


def bank_with(bank: Path, sounds: list[str], images: list[str]):
    """A bank in which each file is one clip or image, with vectors of noise."""
    run = run_on(bank)
    for kind, names in (("audio", sounds), ("image", images)):
        add_files(run, kind, [{"uri": name, "content_id": content_id(name.encode())} for name in names])
        ids = [content_id(name.encode()) for name in names]
        if kind == "audio":
            append(run, "clips", [{"clip_id": id[::-1], "content_id": id} for id in ids])
            append(run, "audio_vectors", [{"clip_id": id[::-1], "vector": [0.0] * 4} for id in ids])
        else:
            append(run, "images", [{"image_id": id} for id in ids])
            append(run, "image_vectors", [{"image_id": id, "vector": [0.0] * 4} for id in ids])
    return run


def test_a_sound_and_an_image_are_a_pair_by_their_name_up_to_the_first_dot(tmp_path):
    run = bank_with(
        tmp_path, ["/x/a.flac", "/x/b.c.wav", "/y/d.wav"], ["/x/a.jpg", "/x/b.1.jpg", "/x/b.2.jpg", "/x/d.jpg"]
    )
    found, notes = find_pairs(run, FOLDER)
    assert sorted(found["uri"].to_pylist()) == ["/x/a.jpg", "/x/b.1.jpg", "/x/b.2.jpg"]
    assert sorted(found["key"].to_pylist()) == ["/x/a", "/x/b", "/x/b"]
    assert notes == [
        "1 of 3 clips have no partner, and are left out",
        "1 of 4 images have no partner, and are left out",
    ]


def test_a_name_of_several_sounds_is_said(tmp_path):
    names = ["/x/rec.clean.flac", "/x/rec.mixed.flac"]
    run = bank_with(tmp_path, names, ["/x/rec.1.png", "/x/rec.png"])
    found, notes = find_pairs(run, FOLDER)
    assert found.num_rows == 4
    assert notes == ["1 names up to the first dot are of several sounds, each of which is paired with all their images"]


def test_of_names_with_dots_the_whole_name_counts_where_a_sound_has_it(tmp_path):
    names = [f"/x/2024.05.{day:02}" for day in range(1, 6)]
    run = bank_with(
        tmp_path, [f"{name}.flac" for name in names], [f"{name}.png" for name in names[1:]] + ["/x/2024.05.01.9.JPG"]
    )
    found, notes = find_pairs(run, FOLDER)
    assert sorted(found["key"].to_pylist()) == names and notes == []
    assert found.num_rows == 5 and "/x/2024.05.01.9.JPG" in found["uri"].to_pylist()


def test_without_any_pair_a_sentence_names_the_key(tmp_path):
    with pytest.raises(BadConfig) as caught:
        find_pairs(bank_with(tmp_path, ["/x/a.flac"], ["/x/b.jpg"]), FOLDER)
    assert (
        caught.value.key == "pairs.folder" and "among 1 clips and 1 images: put images beside" in caught.value.sentence
    )


def test_a_table_pairs_files_of_any_names(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text(
        "audio,image\nsounds/a.flac,images/1.jpg\nsounds/a.flac,images/2.jpg\nsounds/z.flac,images/2.jpg\n"
    )
    names = [str(tmp_path / name) for name in ("sounds/a.flac", "images/1.jpg", "images/2.jpg")]
    run = bank_with(tmp_path / "bank", names[:1], names[1:])
    found, notes = find_pairs(run, PairOptions(table=str(table)))
    assert found.num_rows == 2
    missing = f"missing or rejected files: 1 ({tmp_path}/sounds/z.flac)"
    assert notes == [f"rows of the table without a pair: 1; {missing}"]
    for name in ("sounds", "images"):
        (tmp_path / name).mkdir()
    assert folders_of(str(table)) == ([str(tmp_path / "sounds")], [str(tmp_path / "images")])


def test_rows_without_a_pair_are_counted_also_beside_a_file_of_several_clips(tmp_path):
    table = tmp_path / "t" / "pairs.csv"
    table.parent.mkdir()
    table.write_text("audio,image,note\na.flac,1.jpg,\nz.flac,1.jpg,\n,1.jpg,\na.flac,,\n")
    names = [str(table.parent / name) for name in ("a.flac", "1.jpg")]
    run = bank_with(tmp_path / "bank", names[:1], names[1:])
    second = {"clip_id": "f" * 32, "content_id": content_id(names[0].encode())}
    append(run, "clips", [second])
    append(run, "audio_vectors", [{"clip_id": second["clip_id"], "vector": [0.0] * 4}])
    found, notes = find_pairs(run, PairOptions(table=str(table)))
    assert found.num_rows == 2
    missing = f"missing or rejected files: 1 ({table.parent}/z.flac); rows that name one file only, or none: 2"
    assert notes[0] == f"rows of the table without a pair: 3; {missing}"
    assert folders_of(str(table)) == ([str(table.parent)], [str(table.parent)])  # not the folder above it


def test_of_many_missing_files_the_first_are_named(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("audio,image\na.flac,1.jpg\n" + "".join(f"gone/{number}.flac,1.jpg\n" for number in range(5)))
    run = bank_with(tmp_path / "bank", [str(tmp_path / "a.flac")], [str(tmp_path / "1.jpg")])
    named = ", ".join(f"{tmp_path}/gone/{number}.flac" for number in range(3))
    assert find_pairs(run, PairOptions(table=str(table)))[1] == [
        f"rows of the table without a pair: 5; missing or rejected files: 5 ({named} and 2 more)"
    ]
    assert folders_of(str(table)) == ([str(tmp_path)], [str(tmp_path)])  # and not the folder that does not exist


def test_a_table_of_which_no_folder_exists_is_refused(tmp_path):
    (tmp_path / "pairs.csv").write_text("audio,image\ngone/a.flac,1.jpg\n")
    with pytest.raises(BadConfig) as caught:
        folders_of(str(tmp_path / "pairs.csv"))
    assert caught.value.key == "pairs.table" and f"column audio not even the folders exist, as {tmp_path}/gone" in str(
        caught.value
    )


def test_tars_without_sounds_or_images_are_named(tmp_path):
    run = bank_with(tmp_path, ["/x/a.tar#1.flac"], ["/x/a.tar#1.png"])
    for kind, lacking in (("audio", ["b", "c", "d", "e"]), ("image", ["f"])):
        names = "abcdef"
        ids = add_listing(run, kind, [{"uri": f"/x/{name}.tar", "is_tar": True} for name in names])
        rejects = [{"id": ids[names.index(name)], "stage": "read", "sentence": "no member"} for name in lacking]
        append(run, "rejects", rejects, of=f"{kind}_members")
    sentences = [
        "4 of 6 tars hold no sounds (/x/b.tar, /x/c.tar, /x/d.tar and 1 more)",
        "1 of 6 tars hold no images (/x/f.tar)",
    ]
    assert find_pairs(run, FOLDER)[1][-2:] == sentences
    too_many = refused(run, "read_audio_tars", BadConfig("rejected 4 of 6", key="run.max_reject_fraction"))
    assert too_many.key == "pairs.folder" and too_many.sentence.startswith(sentences[0])
    other = BadConfig("it does not exist", key="audio")
    assert refused(run, "list_audio", other) is other


def test_a_table_may_have_labels_and_captions_and_what_else_it_has_is_said(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("audio,image,label,caption,split\na.flac,1.jpg,no,a dog,x\nb.flac,2.jpg,1,,x\nb.flac,2.jpg,0,,x\n")
    names = [str(tmp_path / name) for name in ("a.flac", "b.flac", "1.jpg", "2.jpg")]
    run = bank_with(tmp_path / "bank", names[:2], names[2:])
    found, notes = find_pairs(run, PairOptions(table=str(table)))
    assert found.select(["uri", "label", "caption"]).sort_by("uri").to_pylist() == [
        {"uri": names[2], "label": "no", "caption": "a dog"},
        {"uri": names[3], "label": "0", "caption": None},
    ]
    assert notes == [
        "the table's columns split are not used: a training reads audio, image, label, caption",
        "rows of the table whose pair of files another row names, too: 1; a pair counts once",
        "pairs in several rows with different labels or captions: 1; the first by name counts",
    ]


def test_labels_of_a_parquet_table_are_texts(tmp_path):
    rows = pa.table({"audio": ["a.flac", "b.flac"], "image": ["1.jpg", ""], "label": [3.0, None]})
    pa.parquet.write_table(rows, tmp_path / "pairs.parquet")
    assert read_table(str(tmp_path / "pairs.parquet")).to_pylist() == [
        {"audio": str(tmp_path / "a.flac"), "image": str(tmp_path / "1.jpg"), "label": "3", "caption": None},
        {"audio": str(tmp_path / "b.flac"), "image": None, "label": None, "caption": None},
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.tsv", "audio\timage\tlabel\na.flac\t1.jpg\train, heavy\n"),
        ("pairs.csv", "sep=;\naudio;image;label\na.flac;1.jpg;rain, heavy\n"),
        ("pairs.txt", 'Audio, Image, Label\r\na.flac, 1.jpg,"rain, heavy"\r\n'),
        ("pairs.csv", "\ufeffaudio\timage\tlabel\na.flac\t1.jpg\train, heavy\n"),
        ("pairs.jsonl", '{"image": "1.jpg", "audio": "a.flac", "label": "rain, heavy"}\n'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_of_pairs_is_read_as_one_of_metadata_is(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(text.removeprefix("\ufeff" * (encoding == "utf-16")).encode(encoding))
    found = [str(tmp_path / "a.flac"), str(tmp_path / "1.jpg"), "rain, heavy", None]
    assert read_table(str(tmp_path / name)).to_pylist() == [dict(zip(USED, found, strict=True))]


def test_only_the_columns_of_a_parquet_table_that_are_used_are_read(tmp_path):
    rows = pa.table({"Image": ["1.jpg"], "bytes": [b"\xff"], "AUDIO ": ["a.flac"]})
    pa.parquet.write_table(rows, tmp_path / "pairs.parquet")
    assert unused_columns(str(tmp_path / "pairs.parquet")) == ["bytes"]
    [row] = read_table(str(tmp_path / "pairs.parquet")).to_pylist()
    assert row == {"audio": str(tmp_path / "a.flac"), "image": str(tmp_path / "1.jpg"), "label": None, "caption": None}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('audio,image\na.flac,"1.jpg\n', "line 2"),
        ("audio,image\na.flac,1,2.jpg\n", "line 2 has more fields"),
        ("audio,image\na\xff.flac,1.jpg\n", "line 2 is not UTF-8"),
        ("audio,image,Audio\na.flac,1.jpg,b.flac\n", "two columns are called audio"),
    ],
)
def test_a_line_of_a_table_of_pairs_that_cannot_be_read_is_named(tmp_path, text, sentence):
    (tmp_path / "pairs.csv").write_text(text, "latin-1")
    with pytest.raises(BadConfig, match=sentence) as caught:
        read_table(str(tmp_path / "pairs.csv"))
    assert (caught.value.key, caught.value.uri) == ("pairs.table", str(tmp_path / "pairs.csv"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("sound,image\na,b\n", "no column audio"), ("audio,image\n", "no rows"), ("audio,image\n,b\n", "no pair")],
)
def test_a_table_without_its_columns_or_rows_is_refused(tmp_path, text, sentence):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(BadConfig, match=sentence) as caught:
        folders_of(str(tmp_path / "pairs.csv"))
    assert caught.value.key == "pairs.table"


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(BadConfig) as caught:
        read_table(str(tmp_path / "none.parquet"))
    assert caught.value.uri == str(tmp_path / "none.parquet")


def test_pairs_with_a_common_recording_or_image_are_in_one_part():
    rng = np.random.default_rng(0)
    recordings, pictures = rng.integers(100, size=300), rng.integers(2_000, size=300)
    pictures[:20] = 7  # one image of many recordings
    names = [f"{number:032x}" for number in recordings]
    options = PairOptions(folder="x", held_out=0.3, validation=0.2)
    parts = split(recordings, pictures, names, options, 0)
    for numbers in (recordings, pictures):
        for number in np.unique(numbers):
            assert len(np.unique(parts[numbers == number])) == 1
    assert {TRAIN, VALIDATION, HELD_OUT} == set(parts)
    again = split(
        recordings[::-1], pictures[::-1], names[::-1], PairOptions(folder="x", held_out=0.3, validation=0.2), 0
    )
    assert (again[::-1] == parts).all()


def test_the_windows_of_a_video_are_in_one_part():
    keys = [f"/x/film-{video}-{window:04}" for video in range(40) for window in range(5)]
    ids = [f"{number:04}" for number in range(200)]
    table = pa.table({"clip_id": ids, "image_id": ids, "content_id": ids, "label": pa.nulls(200, pa.string())})
    table = table.append_column("key", [keys])
    facts, _ = facts_of(table, PairOptions(videos="x", held_out=0.3, validation=0.2), 0)
    parts = facts[:, -1].reshape(40, 5)
    assert (parts == parts[:, :1]).all() and set(parts[:, 0]) == {TRAIN, VALIDATION, HELD_OUT}


def test_labels_become_classes():
    table = pa.table(
        {
            "clip_id": ["a", "b", "c"],
            "image_id": ["1", "2", "3"],
            "content_id": ["a", "b", "c"],
            "label": ["rain", None, "rain"],
        }
    )
    facts, classes = facts_of(table, FOLDER, 0)
    assert facts[:, 2].tolist() == [0, -1, 0] and classes == ["rain"]


def test_the_frame_most_similar_to_the_label_is_chosen_else_the_middle_one():
    image = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float16)
    text = np.array([[0, 1], [0, 1], [0, 0], [0, 0]], np.float16)
    facts = np.zeros((4, 4), np.int64)
    pairs, keys = PairVectors(image, image, text, facts), np.array([0, 0, 1, 1])
    by_label = chosen_frames(pairs, keys, PairOptions(videos="x", frame="label"))
    assert by_label.tolist() == [False, True, True, False]
    assert chosen_frames(pairs, keys, PairOptions(videos="x")).tolist() == [True, False, True, False]


def test_the_source_of_pairs_is_one():
    with pytest.raises(ValueError, match="folder and table is set"):
        PairOptions(folder="x", table="y")


def test_members_of_one_tar_are_pairs(tmp_path):
    names = ["x.tar#a.flac", "x.tar#a.jpg", "y.tar#a.jpg"]
    run = bank_with(tmp_path, names[:1], names[1:])
    assert find_pairs(run, FOLDER)[0]["uri"].to_pylist() == ["x.tar#a.jpg"]
