"""The corpus is ingested: each file is in a table with the right facts, in `rejects` with the reason, or aside."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.app.cli import app
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run
from tests.corpus.cases import Said
from tests.corpus.folder import Expected, write_corpus
from tests.corpus.images import IMAGES
from tests.corpus.sounds import SOUNDS

_USED = """
    SELECT i.uri, m.name, i.label, i.caption, i.licence, f.content_id
    FROM {kind}_files f JOIN {kind}_items i USING (file_id) LEFT JOIN {kind}_members m USING (file_id)
"""
_LENGTHS = """
    SELECT content_id, max(start_s + duration_s) - min(start_s) AS duration_s, max(rate_hz) AS rate_hz,
        max(channels) AS channels
    FROM clips
    GROUP BY content_id
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def expected(folder) -> Expected:
    return write_corpus(folder)


@pytest.fixture(scope="module")
def config(folder, expected) -> Path:
    return write_config(folder, "bank", 0.9)


@pytest.fixture(scope="module")
def planned(config) -> str:
    """What `aai plan` prints before the first build."""
    done = CliRunner().invoke(app, ["plan", "-c", str(config)])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def built(config, planned) -> Run:
    """The steps of a build up to clips and images."""
    run = open_run(load_config(config))
    for stage in run.stages[: [stage.name for stage in run.stages].index("ingest_audio") + 1]:
        run.do(stage)
    return run


@pytest.fixture(scope="module")
def rejects(built, folder) -> dict[str, str]:
    """The sentence of each reject, by its file."""
    rows = built.workspace.table("rejects").read().to_pylist()
    found = {row["uri"].removeprefix(f"{folder}/"): row["sentence"] for row in rows}
    assert len(found) == len(rows), "each file once"
    return found


@pytest.fixture(scope="module")
def used(built, folder) -> dict[str, dict]:
    """The rows of files and members that were ingested, by their names."""
    with built.query() as query:
        rows = [row for kind in ("audio", "image") for row in query.table(_USED.format(kind=kind)).to_pylist()]
    found = {_name(row).removeprefix(f"{folder}/"): row for row in rows}
    return found


def _name(row: dict) -> str:
    return row["uri"] if row["name"] is None else f"{row['uri']}#{row['name']}"


def write_config(folder: Path, bank: str, max_reject_fraction: float) -> Path:
    keys = {"audio": "sounds", "images": "images", "metadata": "labels.csv", "workspace": bank}
    keys |= {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    (folder / f"{bank}.yaml").write_text(yaml.safe_dump(keys | {"run": {"max_reject_fraction": max_reject_fraction}}))
    return folder / f"{bank}.yaml"


def test_there_are_enough_kinds(expected):
    assert len(expected.used) + len(expected.rejects) >= 200
    both = [*expected.used, *expected.rejects, *expected.aside]
    assert {name for name in both if both.count(name) > 1} == {"images/mixed.tar#twice.png"}


def test_everything_that_cannot_be_used_is_one_reject_and_nothing_else_is(rejects, expected):
    assert rejects.keys() == expected.rejects.keys()


def test_a_reject_says_what_is_wrong_and_what_to_do(rejects, expected, folder):
    for name, sentence in rejects.items():
        assert expected.rejects[name] in sentence and ": " in sentence, name
        assert sentence.isprintable() and str(folder) not in sentence, name
        assert not re.search(r"\w+Error\b", sentence), name


def test_everything_else_is_in_a_table_with_its_own_label_caption_and_licence(used, expected):
    def said(name: str) -> Said:
        return used[name]["label"], used[name]["caption"], used[name]["licence"]

    assert {name: said(name) for name in used} == expected.used


def test_contents_have_the_length_rate_and_size_from_which_they_were_encoded(built, used):
    with built.query() as query:
        clips = {row["content_id"]: row for row in query.table(_LENGTHS).to_pylist()}
        images = {row["image_id"]: row for row in query.table("SELECT * FROM images").to_pylist()}
    for sound in SOUNDS:
        wave, clip = sound.wave(), clips[used[f"sounds/{sound.name}"]["content_id"]]
        assert (clip["rate_hz"], clip["channels"]) == (sound.rate_hz, wave.shape[1]), sound.name
        assert 0 <= clip["duration_s"] - len(wave) / sound.rate_hz <= sound.surplus_s + 1e-9, sound.name
    for picture in IMAGES:
        image = images[used[f"images/{picture.name}"]["content_id"]]
        assert (image["height"], image["width"]) == picture.pixels().shape[:2], picture.name


def test_rows_of_metadata_that_name_no_file_are_counted(planned, folder):
    notes = rf"metadata: {folder / 'labels.csv'}: (\d+) of (\d+) rows name a file that is there"
    missing = [int(num) - int(matched) for matched, num in re.findall(notes, planned)]
    assert sum(missing) == 1


def test_what_is_left_aside_is_said_by_extension(planned):
    assert "left aside" in planned and ".md" in planned
    assert ".db" not in planned, "files of the system are ignored"


def test_a_second_build_tries_none_of_it_again(built):
    again = [built.do(stage) for stage in built.stages if stage.name.startswith(("list", "read", "ingest"))]
    assert [(summary.stage, summary.new, summary.rejected) for summary in again if summary.new] == []


def test_above_the_fraction_the_build_ends_with_a_sentence(folder):
    done = CliRunner().invoke(app, ["build", "-c", str(write_config(folder, "strict", 0.1))])
    assert done.exit_code == 2 and "Traceback" not in done.output
    output = " ".join(done.output.split())
    assert re.search(r"aai: run.max_reject_fraction: read_image_tars rejected \d+ of \d+ items, more than 0.1", output)
    assert "look into the table `rejects`, or raise the fraction" in output
