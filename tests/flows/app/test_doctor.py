"""`aai doctor`: what is in order, what is not, and the exit code that says so."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from aai.workspace import Workspace
from flows.app.cli import app
from flows.app.doctor import Finding, examine
from flows.app.doctor_models import missing_extras, models
from tasks.runtime.presence import Presence
from tests.bank import add_cues, run_on


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("aai.yaml").write_text("{fit: {method: mapper}, render: {guidance: 1}}")
    return add_cues(run_on(tmp_path / "bank"))


def wrong(findings: list[Finding]) -> dict[str, str | None]:
    return {finding.text: finding.remedy for finding in findings if finding.is_wrong}


def test_a_sound_installation_and_workspace_are_in_order(run):
    findings = examine(run)
    assert wrong(findings) == {}
    texts = [finding.text for finding in findings]
    assert any(text.startswith("Python 3.") for text in texts) and any(text.startswith("torch ") for text in texts)
    assert "0 shards that no row names" in texts
    assert all(finding.line == f"ok     {finding.text}" for finding in findings)


def test_models_are_listed_and_one_that_is_not_there_is_a_fault(run, tmp_path, monkeypatch):
    texts = [finding.text for finding in examine(run)]
    assert {f"models.{role}: {name}" for role, name in (("audio", "clap"), ("aligner", "aligner"))} <= set(texts)
    monkeypatch.setattr("flows.app.doctor_models.find_spec", lambda name: True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    found = wrong(examine(run_on(tmp_path / "real", profile="sd15")))
    assert all("and the hub does not answer" in text for text in found)
    assert {text.split(": ")[1] for text in found} >= {"models.joint", "models.diffusion"}
    assert all("name a folder with the model" in str(remedy) for remedy in found.values())


def test_a_model_that_is_yet_to_be_downloaded_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aai.models.hub.is_online", lambda: True)
    found = dict(models(run_on(tmp_path / "real", profile="sd15")))
    assert set(found.values()) == {None}
    assert all(text.endswith("the first run that needs it downloads it") for text in found)


def test_extras_that_are_not_installed_are_named_with_what_is_not_possible(monkeypatch):
    monkeypatch.setattr("flows.app.doctor_models.find_spec", lambda name: None)
    lines = [finding.line for finding in examine(None)]
    assert sum(line.startswith("ok     without the extra ") for line in lines) == 3
    assert any("m4a" in line and "pip install '.[av]'" in line for line in lines)


def test_an_extra_that_the_configuration_needs_is_a_fault_and_others_are_left_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.app.doctor_models.find_spec", lambda name: None)

    def extras(run) -> dict[str, str | None]:
        return {text.split()[3]: remedy for text, remedy in missing_extras(run)}

    assert extras(run) == {"av": None}
    real = extras(run_on(tmp_path / "real", profile="sd15", audio="s3://bucket/sounds"))
    assert "pip install timm torchvision" in str(real["joint"]) and "pip install '.[s3]'" in str(real["s3"])
    gemma = {"name": "google/embeddinggemma-2", "revision": "0" * 40}
    assert extras(run_on(tmp_path / "real", profile="sd15", models={"joint": gemma})) == {"av": None}
    judged_by_pe_av = {"joint": gemma, "audio_judge": {"name": "facebook/pe-av-base", "revision": "0" * 40}}
    assert extras(run_on(tmp_path / "real", profile="sd15", models=judged_by_pe_av))["joint"]


def test_without_a_workspace_the_installation_is_examined(run):
    assert not any("shards" in finding.text for finding in examine(None))


def test_orphans_are_found_with_their_remedy_and_exit_code_1(run, tmp_path):
    orphan = Path(run.workspace.shard_uri("renders", run.recipe("renders"), "orphan.tar"))
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    (tmp_path / "bank" / "clips" / f"recipe={run.recipe('clips')}" / "part-lost.parquet").touch()
    found = wrong(examine(run))
    assert len(found) == 2 and all("aai bank prune" in str(remedy) for remedy in found.values())
    assert any(text.startswith("1 shards that no row names, such as shards/renders/") for text in found)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1 and "WRONG  1 shards that no row names" in done.output
    assert CliRunner().invoke(app, ["doctor", "--set", "workspace=other"]).exit_code == 0


def test_who_is_at_work_is_listed_and_a_driver_that_was_killed_is_not(run):
    with Presence(run.workspace.store, "cues", run.recipe("cues"), "fit") as presence:
        [text] = [finding.text for finding in examine(run) if "at work" in finding.text]
        assert text.startswith(f"at work on cues: host {presence.process.host}, process {os.getpid()}, since 20")
        presence.process = presence.process.model_copy(update={"created_s": 1.0})
        presence.begin()
        assert not any("at work" in finding.text for finding in examine(run))
        assert wrong(examine(run)) == {}


def test_metadata_without_effect_is_found_and_a_location_that_is_not_there(run, tmp_path):
    for name in ("sounds/a.wav", "images/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "m.csv").write_text("file,label\nb.wav,rain\n")
    keys = {"audio": str(tmp_path / "sounds"), "metadata": str(tmp_path / "m.csv")}
    [(text, remedy)] = wrong(examine(run_on(tmp_path / "other", images=str(tmp_path / "images"), **keys))).items()
    assert text.startswith(
        f"metadata: {tmp_path}/m.csv: 0 of 1 rows name a file that is there; for example line 2, b.wav"
    )
    assert "METADATA.md" in str(remedy)
    [text] = wrong(examine(run_on(tmp_path / "other", images=str(tmp_path / "none"), **keys)))
    assert text.startswith("images: ") and "does not exist" in text


def test_a_table_may_correct_sidecars_but_not_contradict_itself(tmp_path):
    for name in ("sounds/a.wav", "sounds/b.wav", "images/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sounds" / "a.json").write_text('{"label": "drizzle"}')
    keys = {"audio": str(tmp_path / "sounds"), "images": str(tmp_path / "images"), "metadata": str(tmp_path / "m.csv")}
    run = run_on(tmp_path / "bank", **keys)
    (tmp_path / "m.csv").write_text("file,label\nsounds/a.wav,rain\n")
    findings = examine(run)
    [correction] = [finding.text for finding in findings if "one source corrects another: 1" in finding.text]
    assert "label 'drizzle' (its sidecar) and 'rain'" in correction and wrong(findings) == {}
    (tmp_path / "m.csv").write_text("file,label\nsounds/a.wav,rain\nsounds/b.wav,fire\nsounds/b.wav,snow\n")
    findings = examine(run)
    assert any("one source corrects another: 1" in finding.text for finding in findings)
    [text] = wrong(findings)
    assert "several rows say different things: 1" in text and "label 'fire'" in text and "'snow'" in text


def test_a_package_that_is_missing_is_found(monkeypatch):
    monkeypatch.setattr("flows.app.doctor._PACKAGES", ("torch", "no-such-package"))
    assert wrong(examine(None)) == {"no-such-package is missing": "run `make install`"}


@pytest.mark.parametrize("build", ["both", "none"])
def test_two_builds_of_faiss_or_none_are_wrong(monkeypatch, build):
    monkeypatch.setattr("flows.app.doctor.faiss_build", lambda: build)
    [(text, remedy)] = wrong(examine(None)).items()
    assert text == f"faiss: {build}" and "faiss-cpu" in str(remedy)


def test_examining_changes_nothing(run):
    before = sorted(path for path in Path(run.workspace.uri).rglob("*"))
    examine(run)
    assert sorted(path for path in Path(run.workspace.uri).rglob("*")) == before
    assert isinstance(run.workspace, Workspace)


def test_locations_that_lead_nowhere_are_found(run, tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "new.wav").touch()
    keys = {"audio": str(tmp_path / "sounds"), "images": str(tmp_path / "none")}
    found = wrong(examine(run_on(run.workspace.uri, **keys)))
    assert f"images: {tmp_path}/none does not exist" in found
    assert "aai build" in str(found["5 files of audio that the last build found are gone"])
