"""The nightly flow on a real Prefect server makes bank, pictures, scores and report."""

import pytest
import yaml

from tasks.stages import load_config, open_run
from tests.collection import NUM_CLIPS, write_collection


@pytest.fixture
def config(tmp_path):
    write_collection(tmp_path)
    keys = {"audio": "sounds", "images": "images", "fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    (tmp_path / "aai.yaml").write_text(yaml.safe_dump(keys | {"render": {"steps": 2}}))
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump([{"prompt": "a photo of *"}]))
    return str(tmp_path / "aai.yaml")


@pytest.mark.slow
def test_a_night_makes_everything(prefect_api, config, tmp_path):
    from flows.app.nightly import nightly

    jobs = str(tmp_path / "jobs.yaml")
    assert nightly(config, jobs, return_state=True).is_completed()
    workspace = open_run(load_config(config)).workspace
    ids = {name: workspace.table(name).read(["render_id"])["render_id"].to_pylist() for name in ("renders", "scores")}
    assert workspace.table("cues").read(["clip_id"]).num_rows == NUM_CLIPS == len(ids["renders"])
    assert set(ids["scores"]) == set(ids["renders"])
    assert "<html" in (tmp_path / "bank" / "report.html").read_text()
