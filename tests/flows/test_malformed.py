"""One build over malformed files of every kind: each becomes a reject with a sentence, and nothing else is lost."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.app.cli import app
from tasks.runtime.config import load_config
from tasks.runtime.run import Run, open_run
from tests.corpus import GOOD_IMAGES, GOOD_MEMBERS, GOOD_SOUNDS, MALFORMED, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def config(corpus) -> Path:
    return write_config(corpus, "bank", 0.9)


@pytest.fixture(scope="module")
def built(config, prefect_home, prefect_url) -> Run:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_url, PREFECT_HOME: prefect_home}):
        done = CliRunner().invoke(app, ["build", "-c", str(config)])
    assert done.exit_code == 0, done.output
    return open_run(load_config(config))


def write_config(corpus: Path, bank: str, most: float) -> Path:
    keys = {"audio": "sounds", "images": "images", "metadata": "said.csv", "workspace": bank}
    keys |= {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "run": {"max_reject_fraction": most}}
    (corpus / f"{bank}.yaml").write_text(yaml.safe_dump(keys))
    return corpus / f"{bank}.yaml"


def rejects_of(run: Run, corpus: Path) -> dict[str, str]:
    """The sentence of each reject, by what it is about."""
    rows = run.workspace.table("rejects").read().to_pylist()
    places = tuple(f"{corpus / name}/" for name in ("sounds", "images"))
    found = {row["uri"].removeprefix(places[0]).removeprefix(places[1]): row["sentence"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_there_are_enough_kinds():
    assert len(MALFORMED) >= 40


def test_everything_malformed_is_one_reject_and_nothing_else_is(built, corpus):
    assert rejects_of(built, corpus).keys() == MALFORMED.keys()


@pytest.mark.parametrize("name", MALFORMED)
def test_a_reject_says_what_is_wrong_with_what_and_what_to_do(name, built, corpus):
    sentence = rejects_of(built, corpus)[name]
    about, what, *remedy = sentence.split(": ")
    assert about.endswith(name.removesuffix("#the end"))
    assert MALFORMED[name] in sentence and remedy
    assert sentence.isprintable() and "Error" not in sentence


def test_everything_good_has_become_something(built, corpus):
    clips, images, cues = (built.workspace.table(name).read().to_pylist() for name in ("clips", "images", "cues"))
    assert sorted(row["uri"] for row in clips) == sorted(str(corpus / "sounds" / name) for name in GOOD_SOUNDS)
    whole = [row["uri"] for row in images if row["offset"] is None]
    assert sorted(whole) == sorted(str(corpus / "images" / name) for name in GOOD_IMAGES)
    assert len(images) == len(GOOD_IMAGES) + GOOD_MEMBERS
    assert {row["clip_id"] for row in cues} == {row["clip_id"] for row in clips}


def test_broken_rows_of_the_metadata_cost_nothing(built):
    labels = {Path(row["uri"]).name: row["label"] for row in built.workspace.table("clips").read().to_pylist()}
    assert (labels["rain.flac"], labels["clock.ogg"], labels["fire.wav"]) == ("rain", "clock", None)


def test_a_second_build_tries_none_of_it_again(built, config):
    again = CliRunner().invoke(app, ["build", "-c", str(config)])
    assert (again.exit_code, "nothing to do" in again.output) == (0, True), again.output


def test_above_the_share_the_build_ends_with_a_sentence(corpus, prefect_api):
    done = CliRunner().invoke(app, ["build", "-c", str(write_config(corpus, "strict", 0.1))])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert re.search(r"aai: max_reject_fraction: ingest_images rejected \d+ of \d+ items, more than 0.1", said)
    assert "look into the table `rejects`, or raise the fraction" in said and "Traceback" not in done.output
