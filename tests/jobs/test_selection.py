"""Cues are selected by label, clip id or a condition in SQL, which reaches nothing else and has limits."""

import json
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from aai.errors import BadConfig
from aai.jobs import condition as program
from aai.jobs.jobfile import make_jobs
from aai.jobs.selection import CueFilter, labels_of, labels_sentence, select_cues
from aai.models.options import RenderOptions
from tests.bank import CLIPS, add_cues, run_on

OPTIONS = RenderOptions(steps=7, guidance=4.0)
ATTRIBUTES = [json.dumps({"intensity": number}) for number in ("0.9", "0.1", "0.2", "0.3")] + [None]
POSITION = "jobs.yaml: job 3: cues"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A bank of five clips: rain, fire, rain, snow and one without a label, of 1 to 5 s."""
    labels = ["rain", "fire", "rain", "heavy snow", None]
    return add_cues(run_on(tmp_path_factory.mktemp("bank")), attributes=ATTRIBUTES, label=labels)


def one(**keys):
    return make_jobs([{"prompt": "a *"} | keys], OPTIONS)[0]


def chosen(run, cue_filter: CueFilter, limit_s: int = 60) -> pa.Table:
    with run.query() as query:
        return select_cues(query, cue_filter, ("clip_id", "label"), POSITION, limit_s)


def refused(run, condition: str, limit_s: int = 60) -> str:
    with pytest.raises(BadConfig) as caught:
        chosen(run, CueFilter(where=condition), limit_s)
    assert caught.value.key == f"{POSITION}.where"
    return caught.value.sentence


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (None, (0, 1, 2, 3, 4)),
        ({"labels": ["rain", "snow"]}, (0, 2)),
        ({"clip_ids": [CLIPS[2], CLIPS[1]]}, (1, 2)),
        ("duration_s > 2", (2, 3, 4)),
        ({"labels": ["rain", "fire"], "where": "duration_s > 2"}, (2,)),
        ("(attributes ->> 'intensity')::double > 0.5 or label is null", (0, 4)),
        ("label = 'snow'", ()),
        ({"labels": "it's"}, ()),
    ],
)
def test_a_filter_lets_through_what_meets_all_of_its_conditions(run, wanted, numbers):
    selected = chosen(run, one(cues=wanted).cues)
    assert selected["clip_id"].to_pylist() == sorted(CLIPS[number] for number in numbers)
    assert selected.column_names == ["clip_id", "label"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("lable = 'rain'", "there is no column lable: did you mean label"),
        ("rain", "it is a label and no condition: did you mean label = 'rain'"),
        ("Heavy snow", "it is a label and no condition: did you mean label = 'heavy snow'"),
        ("rain or duration_s > 3", "there is no column rain, but a label: did you mean label = 'rain'"),
        ("xyz = 3", "; the labels are rain (2), fire (1), heavy snow (1)"),
        ("label = 'rain", "unterminated"),
        ("true) or (true", "syntax error"),
        ("sum(duration_s) > 1", "aggregates"),
        ("label::int > 3", "Could not convert"),
        ("label in (select content from read_text('/etc/hostname'))", "Permission Error"),
        ("list_sum(range(2000000000)) > 0", "more than 2 GiB of memory"),
    ],
)
def test_a_condition_that_is_wrong_or_reaches_out_gets_a_sentence(run, condition, said):
    assert said in refused(run, condition)


def test_a_condition_has_a_limit_of_processor_time(run):
    start_s = time.monotonic()
    sentence = refused(run, "levenshtein(repeat('a', 200000), repeat('b', 200000)) > 0", limit_s=1)
    assert sentence.endswith("it takes more than 1 s: simplify it, or raise run.filter_s")
    assert time.monotonic() - start_s < 30


def test_a_condition_that_only_waits_is_ended_too(run, monkeypatch, tmp_path):
    slow = tmp_path / "condition.py"
    slow.write_text(Path(program.__file__).read_text().replace("_WAITING = 10", "_WAITING = 1"))
    monkeypatch.setattr("aai.jobs.selection._PROGRAM", slow)
    assert "more than 1 s" in refused(run, "sleep_ms(100000) is null", limit_s=1)


def test_an_interrupt_ends_a_condition(run):
    """As Ctrl-C does, in the middle of a function of DuckDB."""

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    start_s = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            chosen(run, CueFilter(where="levenshtein(repeat('a', 200000), repeat('b', 200000)) > 0"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start_s < 20


def test_an_empty_list_does_not_select_everything():
    with pytest.raises(ValueError, match="would select all cues"):
        CueFilter(labels=[])


def test_labels_are_listed_with_their_numbers_of_cues(run):
    with run.query() as query:
        assert labels_of(query) == {"rain": 2, "fire": 1, "heavy snow": 1}
    assert labels_sentence({}) == "no cue has a label"
    many = {f"label {number}": 1_000 for number in range(13)}
    assert labels_sentence(many).endswith("label 9 (1,000) and 3 more")
