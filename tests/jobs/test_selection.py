"""Cues are selected by label, clip id or a condition in SQL, which reaches nothing else."""

import pyarrow as pa
import pytest

from aai.errors import BadConfig
from aai.jobs.jobfile import make_jobs
from aai.jobs.selection import CueFilter, select_cues
from aai.models.options import RenderOptions

OPTIONS = RenderOptions(steps=7, guidance=4.0)

CUES = pa.table(
    {
        "clip_id": ["a", "b", "c"],
        "label": ["rain", "fire", None],
        "duration_s": [1.0, 3.0, 2.0],
        "attributes": ['{"intensity": "0.9"}', None, '{"intensity": "0.1"}'],
    }
)


def one(**keys):
    return make_jobs([{"prompt": "a *"} | keys], OPTIONS)[0]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, "abc"),
        ({"labels": ["rain", "snow"]}, "a"),
        ({"clip_ids": ["c", "b"]}, "bc"),
        ("duration_s > 1", "bc"),
        ({"labels": ["rain", "fire"], "where": "duration_s > 2"}, "b"),
        ("(attributes ->> 'intensity')::double > 0.5 or label is null", "ac"),
        ("label = 'snow'", ""),
    ],
)
def test_a_filter_lets_through_what_meets_all_of_its_conditions(wanted, chosen):
    selected = select_cues(CUES.to_reader(), one(cues=wanted).cues, ("clip_id", "label"), "")
    assert selected["clip_id"].to_pylist() == list(chosen) and selected.column_names == ["clip_id", "label"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("lable = 'rain'", 'Referenced column "lable" not found'),
        ("label = 'rain", "unterminated"),
        ("true; drop table x", "Parser Error"),
        ("true) or (true", "syntax error"),
        ("sum(duration_s) > 1", "aggregates"),
        ("label::int > 3", "Could not convert"),
        ("label in (select content from read_text('/etc/hostname'))", "Permission Error"),
    ],
)
def test_a_condition_that_is_wrong_or_reaches_out_gets_a_sentence(condition, said):
    with pytest.raises(BadConfig) as caught:
        select_cues(CUES.to_reader(), CueFilter(where=condition), ("clip_id",), "jobs.yaml: job 3: cues")
    assert caught.value.key == "jobs.yaml: job 3: cues.where" and said in caught.value.sentence


def test_an_empty_list_does_not_select_everything():
    with pytest.raises(ValueError, match="would select all cues"):
        CueFilter(labels=[])
