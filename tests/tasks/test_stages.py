"""The list of stages is consistent: each reads what stages before it write, and its SQL fits its tables."""

import pytest

from aai.workspace import SCHEMAS
from tasks.runtime.stage import Stage, sections_of
from tasks.stages import STAGES, make_config, open_run
from tests.collection import run_on

CONFIGS = [
    {},
    {"train_mapper": {"method": "learned"}, "align": {"method": "labels"}, "retrieve": {"method": "label"}},
    {"fit": {"method": "inversion"}, "models": {"judge": None}},
    {"profile": "sd15"},
]
with_each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def test_names_and_tables_are_unique():
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    tables = [table for stage in STAGES for table in (stage.table, *stage.also)]
    assert len(set(tables)) == len(tables)
    assert set(SCHEMAS) - {"runs", "recipes", "rejects"} <= set(tables)


@pytest.mark.parametrize("keys", CONFIGS, ids=str)
def test_a_stage_reads_what_needed_stages_before_it_write(keys):
    config, written = make_config(**keys), set()
    for stage in STAGES:
        if stage.is_needed(config):
            assert set(stage.upstream(config)) <= written, stage.name
            written |= {stage.table, *stage.also}


@with_each_stage
def test_a_stage_has_a_worker_with_sql_or_makes_itself(stage: Stage):
    assert bool(stage.worker) != bool(stage.make)
    assert stage.make or stage.rows or stage.name in ("render", "measure")  # whose sources are jobs and comparisons
    for text in (stage.rows, stage.items):
        assert not text or stage.schemas[stage.table].id in text


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage.items], ids=lambda stage: stage.name)
def test_the_items_of_a_stage_are_those_of_its_rows(stage: Stage, shared_collection):
    run, key = run_on(shared_collection), stage.schemas[stage.table].id
    with run.query() as query:
        items, rows = (
            sorted(query.table(f"SELECT DISTINCT {key} FROM ({sql})")[key].to_pylist())
            for sql in (stage.items, stage.rows)
        )
    assert items == rows and (items or stage.command != "build")


def test_sections_are_those_of_the_stages_in_their_order():
    names = ["ingest", "embed", "align", "index", "retrieve", "train_mapper", "fit", "confidence", "render", "score"]
    names.append("measure")
    assert list(sections_of(STAGES)) == names
    assert list(make_config().sections) == names


@pytest.mark.parametrize("profile", ["sd15", "sdxl"])
def test_real_profiles_have_recipes_without_a_download(profile, tmp_path):
    run = open_run(make_config(profile=profile, workspace=str(tmp_path)))
    assert run.recipes["cues"].models["diffusion"].endswith("/bfloat16")
