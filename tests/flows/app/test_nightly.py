"""The nightly flow on a real Prefect server makes bank, pictures, scores and report."""

import time

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


def of_the_night(client):
    """The messages in the log of the flow run `nightly`, once all have arrived, and its artifacts by key."""
    from prefect.client.schemas.filters import ArtifactFilter, FlowFilter, LogFilter

    [night] = client.read_flow_runs(flow_filter=FlowFilter.model_validate({"name": {"any_": ["nightly"]}}))
    mine = {"flow_run_id": {"any_": [night.id]}}
    end_s, messages = time.monotonic() + 30, []
    while not any("Finished in state" in each for each in messages) and time.monotonic() < end_s:
        messages = [each.message for each in client.read_logs(LogFilter.model_validate(mine))]
        time.sleep(0.2)
    found = client.read_artifacts(artifact_filter=ArtifactFilter.model_validate(mine))
    return messages, {each.key: each.data for each in found}


@pytest.mark.slow
def test_a_night_makes_everything_and_says_so_in_its_log(prefect_api, config, tmp_path):
    from prefect.client.orchestration import get_client

    from flows.app.nightly import nightly

    jobs = str(tmp_path / "jobs.yaml")
    assert nightly(config, jobs, return_state=True).is_completed()
    workspace = open_run(load_config(config)).workspace
    ids = {name: workspace.table(name).read(["render_id"])["render_id"].to_pylist() for name in ("renders", "scores")}
    assert workspace.table("cues").read(["clip_id"]).num_rows == NUM_CLIPS == len(ids["renders"])
    assert set(ids["scores"]) == set(ids["renders"])
    with get_client(sync_client=True) as client:
        messages, artifacts = of_the_night(client)
    lines = [each.rsplit(", ", 1)[0] for each in messages]
    for stage in ("fit", "render"):
        assert lines.count(f"{stage}: {NUM_CLIPS} new, 0 rejected, 0 done before") == 1
    assert artifacts.keys() == {"nightly-report"} and f"{tmp_path}/bank/report.html" in artifacts["nightly-report"]
    assert "<html" in (tmp_path / "bank" / "report.html").read_text()
