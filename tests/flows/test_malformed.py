"""One build over malformed files of every kind: each becomes a reject with a sentence, and nothing else is lost."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.app.cli import app
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run
from tests.corpus import GOOD_IMAGES, GOOD_MEMBERS, GOOD_SOUNDS, MALFORMED, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def config(corpus) -> Path:
    return write_config(corpus, "bank", 0.9)


@pytest.fixture(scope="module")
def first(config):
    """What `aai build` printed."""
    return CliRunner().invoke(app, ["build", "-c", str(config)])


@pytest.fixture(scope="module")
def built(first, config) -> Run:
    assert first.exit_code == 0, first.output
    return open_run(load_config(config))


def write_config(corpus: Path, bank: str, max_reject_fraction: float) -> Path:
    keys = {"audio": "sounds", "images": "images", "metadata": "labels.csv", "workspace": bank}
    keys |= {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    (corpus / f"{bank}.yaml").write_text(yaml.safe_dump(keys | {"run": {"max_reject_fraction": max_reject_fraction}}))
    return corpus / f"{bank}.yaml"


def rejects_of(run: Run, corpus: Path) -> dict[str, str]:
    """The sentence of each reject, by its file below `sounds` or `images`."""
    rows = run.workspace.table("rejects").read().to_pylist()
    folders = tuple(f"{corpus / name}/" for name in ("sounds", "images"))
    found = {row["uri"].removeprefix(folders[0]).removeprefix(folders[1]): row["sentence"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_there_are_enough_kinds():
    assert len(MALFORMED) >= 40


def test_everything_malformed_is_one_reject_and_nothing_else_is(built, corpus):
    assert rejects_of(built, corpus).keys() == MALFORMED.keys()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_reject_says_what_is_wrong_and_what_to_do(name, built, corpus):
    sentence = rejects_of(built, corpus)[name]
    assert MALFORMED[name] in sentence and ": " in sentence
    assert sentence.isprintable() and "Error" not in sentence and str(corpus) not in sentence


def test_everything_good_has_become_something(built, corpus):
    with built.query() as query:
        clips = query.table("SELECT clip_id, uri FROM present_clips").to_pylist()
        images = query.table('SELECT uri, "offset" FROM present_images').to_pylist()
    cues = built.workspace.table("cues").read(["clip_id"])["clip_id"].to_pylist()
    assert sorted(row["uri"] for row in clips) == sorted(str(corpus / "sounds" / name) for name in GOOD_SOUNDS)
    whole = [row["uri"] for row in images if row["offset"] is None]
    assert sorted(whole) == sorted(str(corpus / "images" / name) for name in GOOD_IMAGES)
    assert len(images) == len(GOOD_IMAGES) + GOOD_MEMBERS
    assert sorted(cues) == sorted(row["clip_id"] for row in clips)


def test_metadata_of_files_that_do_not_exist_is_noted_and_costs_nothing(built, first, corpus):
    with built.query() as query:
        clips = query.table("SELECT uri, label FROM present_clips").to_pylist()
    labels = {Path(row["uri"]).name: row["label"] for row in clips}
    assert (labels["rain.flac"], labels["fire.wav"]) == ("rain", None)
    note = f"metadata: {corpus / 'labels.csv'}: 2 of 3 rows name a file that is there"
    assert note in " ".join(first.output.split())


def test_a_second_build_tries_none_of_it_again(built, config):
    again = CliRunner().invoke(app, ["build", "-c", str(config)])
    assert (again.exit_code, "nothing to do" in again.output) == (0, True), again.output


def test_above_the_fraction_the_build_ends_with_a_sentence(corpus):
    done = CliRunner().invoke(app, ["build", "-c", str(write_config(corpus, "strict", 0.1))])
    assert done.exit_code == 2 and "Traceback" not in done.output
    output = " ".join(done.output.split())
    assert re.search(r"aai: run.max_reject_fraction: read_image_tars rejected \d+ of \d+ items, more than 0.1", output)
    assert "look into the table `rejects`, or raise the fraction" in output
