"""The cues that a filter selects come with the metadata of their files, in whatever order they are stored."""

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.jobs.selection import CueFilter
from tasks.runtime.run import Run
from tasks.views.export import ExportSource
from tests.bank import CLIPS, DIM, DURATIONS_S, add_cues, append, rows_of, run_on

ALL = CueFilter()


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"), attributes=['{"author": "Ann"}', None, "{}", "{}", "{}"])


def test_every_cue_has_its_vectors_and_its_entry(run):
    source = ExportSource(run, ALL, None)
    assert len(source) == len(CLIPS) and source.dims == [DIM]
    vectors = {row["clip_id"]: np.float32(row["vector"]).reshape(2, DIM) for row in rows_of(run, "cues")}
    entries = {}
    for entry, array in source.cues("a1111"):
        assert np.array_equal(array, vectors[entry.clip_id])
        entries[entry.clip_id] = entry
    entry = entries[CLIPS[0]]
    assert entries.keys() == set(CLIPS)
    assert (entry.label, entry.licence, entry.attribution, entry.recording) == ("rain", "CC0", "author: Ann", "0.flac")
    assert (entry.start_s, entry.duration_s, entry.method) == ("0.0", str(DURATIONS_S[0]), "mapper")
    assert (entry.base_model, entry.base_revision) == run.revision("diffusion")
    assert (entry.recipe, entry.program) == (run.recipe("cues"), "a1111")
    assert entry.file == f"{entry.token.strip('<>')}.safetensors"
    assert entries[CLIPS[4]].label == ""


def test_a_filter_and_a_limit_select_cues_by_their_ids(run):
    rain = sorted([CLIPS[0], CLIPS[2]])
    labelled = ExportSource(run, CueFilter(labels=("rain",)), None)
    assert sorted(entry.clip_id for entry, _ in labelled.cues("diffusers")) == rain
    limited = ExportSource(run, CueFilter(labels=("rain",)), 1)
    assert [entry.clip_id for entry, _ in limited.cues("diffusers")] == rain[:1]


def test_a_filter_that_selects_nothing_is_refused(run):
    with pytest.raises(BadConfig, match="no cue") as error:
        ExportSource(run, CueFilter(labels=("hail",)), None)
    assert error.value.key == "export"


def test_a_wrong_condition_is_named(run):
    with pytest.raises(BadConfig) as error:
        ExportSource(run, CueFilter(where="lable = 1"), None)
    assert error.value.key == "export.where"


def test_cues_of_clips_that_left_the_source_folders_are_left_out(run):
    [row] = [row for row in rows_of(run, "audio_listing") if row["uri"].endswith("/0.flac")]
    del row["recipe"]
    append(run, "audio_listing", [row | {"is_present": False, "listed_at": row["listed_at"] + 1}])
    assert {entry.clip_id for entry, _ in ExportSource(run, ALL, None).cues("diffusers")} == set(CLIPS[1:])
