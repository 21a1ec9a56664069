"""Everything on S3, by a server on loopback: sources, workspace, pictures, scores, report and upkeep, as on disk."""

import logging
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from aai.errors import BadConfig
from aai.jobs.jobfile import make_jobs
from aai.media.files import find_files
from aai.media.kinds import AUDIO_SUFFIXES
from aai.workspace import Workspace
from aai.workspace.drivers import list_drivers
from aai.workspace.maintenance import remove_garbage
from flows import steps
from flows.app.export import export
from flows.app.report import report
from tasks.render import RenderSectionOptions
from tasks.runtime.presence import Presence
from tasks.runtime.run import Run
from tests.collection import NUM_CLIPS, NUM_IMAGES, run_on, write_collection
from tests.workspace.rows import OLD, rows_of

BUCKET = "bank"
PLACES_AND_TIMES = {"file_id", "tar_id", "uri", "metadata_table", "listed_at", "image_uri", "shard", "took_s"}
LOGS = {"recipes", "runs"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A collection with loose files and tars of both kinds."""
    folder = write_collection(tmp_path_factory.mktemp("collection"))
    for kind, suffix in (("sounds", "flac"), ("images", "png")):
        with tarfile.open(folder / kind / "some.tar", "w") as archive:
            for path in sorted((folder / kind).glob(f"*.{suffix}"))[:2]:
                archive.add(path, f"in/{path.name}")
                path.unlink()
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server: of moto's, or of the one that AAI_TEST_S3 names, whose bucket must be new."""
    if address := os.environ.get("AAI_TEST_S3"):
        yield address
        return
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def bucket(folder, server) -> Iterator[str]:
    """The collection in a bucket; the address of its folder."""
    settings = {"AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for path in folder.rglob("*.*"):
            client.upload_file(str(path), BUCKET, path.relative_to(folder).as_posix())
        yield f"s3://{BUCKET}"
    s3fs.S3FileSystem.clear_instance_cache()


def everything(run: Run) -> Run:
    """Build, render, score, report."""
    steps.build(run)
    jobs = make_jobs([{"prompt": "a photo of *", "steps": 2}], run.config.options(RenderSectionOptions).of_jobs)
    steps.render(run, jobs)
    steps.score(run)
    report(run)
    return run


def located(place: str) -> dict:
    return {"audio": f"{place}/sounds", "images": f"{place}/images", "metadata": f"{place}/said.csv"}


@pytest.fixture(scope="module")
def on_s3(bucket, folder) -> Run:
    return everything(run_on(folder, **located(bucket), workspace=f"{bucket}/bank", render={"guidance": 1}))


@pytest.fixture(scope="module")
def on_disk(folder) -> Run:
    return everything(run_on(folder, **located(str(folder)), render={"guidance": 1}))


def contents(run: Run, name: str) -> list[dict]:
    """A table's rows without what depends on place and time."""
    schema = run.workspace.schemas[name].columns
    columns = [field.name for field in schema if field.name not in PLACES_AND_TIMES]
    rows = run.workspace.table(name).read(columns)
    sortable = [field.name for field in rows.schema if not pa.types.is_nested(field.type)]
    return rows.sort_by([(column, "ascending") for column in sortable]).to_pylist()


def test_the_bank_on_s3_is_the_one_on_disk(on_s3, on_disk):
    for name in on_s3.workspace.schemas.keys() - LOGS:
        assert contents(on_s3, name) == contents(on_disk, name), name
    assert len(contents(on_s3, "clips")) == len(contents(on_s3, "renders")) == NUM_CLIPS
    assert len(contents(on_s3, "images")) == NUM_IMAGES and contents(on_s3, "scores")


def test_a_bank_on_s3_is_sound_and_its_cues_are_exported(on_s3, tmp_path):
    health = on_s3.workspace.health()
    assert (health.orphan_files, health.orphan_shards, health.missing_shards, health.leftovers) == ([], [], [], [])
    assert export(on_s3, tmp_path / "cues").new == NUM_CLIPS


def test_a_table_on_s3_is_compacted_and_pruned(bucket):
    workspace = Workspace(f"{bucket}/other")
    table = workspace.table("clips")
    for id in ("a", "b"):
        table.append(OLD, rows_of("clips", [id]))
    assert table.compact() == (2, 1)
    garbage = remove_garbage(workspace, 0.0)
    assert len(garbage.data_files) == 2 and sorted(table.ids(OLD).to_pylist()) == ["a", "b"]


def test_drivers_on_s3_know_of_each_other_and_leave_what_others_have_in_hand(bucket):
    store = Workspace(f"{bucket}/shared").store
    first, second = (Presence(store, "cues", OLD, "fit") for _ in range(2))
    for driver in (first, second):
        driver.begin()
    assert second.claim(["a"]) is None and not second.look()
    first.claim(["a", "b"])
    first.tend()
    assert second.look() and second.claim(["b", "c"]).tolist() == [False, True]
    assert len(list_drivers(store)) == 2 and all(file.renewed_s > 0 for file in list_drivers(store))
    second.end()
    first.tend()
    assert first.is_alone
    first.end()
    assert list_drivers(store) == []


def test_a_file_that_another_program_put_into_the_bucket_is_found(bucket):
    before = find_files("audio", [f"{bucket}/sounds"], AUDIO_SUFFIXES).files
    boto3.client("s3").put_object(Bucket=BUCKET, Key="sounds/late.wav", Body=b"new")
    after = find_files("audio", [f"{bucket}/sounds"], AUDIO_SUFFIXES).files
    assert [file.uri for file in after if file not in before] == [f"{bucket}/sounds/late.wav"]


def test_a_bucket_that_is_not_there_is_a_setting(bucket, folder):
    with pytest.raises(BadConfig) as error:
        find_files("audio", ["s3://no-such-bucket/sounds"], AUDIO_SUFFIXES)
    assert error.value.key == "audio" and "s3://no-such-bucket/sounds" in str(error.value)
    with pytest.raises(BadConfig, match="there is no such bucket") as error:
        Workspace("s3://no-such-bucket/bank").table("clips").append(OLD, rows_of("clips", ["a"]))
    assert error.value.key == "workspace"
