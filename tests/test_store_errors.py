"""What the clients of stores raise becomes one sentence: try again, or what to set."""

import errno
import http.client

import aiohttp
import botocore.exceptions
import duckdb
import fsspec.exceptions
import pytest
import s3fs.errors
import urllib3.exceptions

from aai.errors import BadConfig, BadItem, Transient
from aai.store_errors import of_text, store_errors
from aai.workspace.query_errors import reading

BUCKET = "s3://bank/cues"
URL = {"endpoint_url": "https://s3"}
MAY_PASS = [
    botocore.exceptions.ConnectionClosedError(**URL),
    botocore.exceptions.EndpointConnectionError(**URL),
    botocore.exceptions.ReadTimeoutError(**URL),
    botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    aiohttp.ClientPayloadError("cut"),
    aiohttp.ServerDisconnectedError(),
    urllib3.exceptions.ProtocolError("broken"),
    http.client.IncompleteRead(b""),
    fsspec.exceptions.FSTimeoutError(),
    ConnectionResetError(),
    TimeoutError(),
    OSError("Generic S3 error: Error performing PUT: error sending request"),
]
REFUSED = [
    botocore.exceptions.NoCredentialsError(),
    botocore.exceptions.PartialCredentialsError(provider="env", cred_var="key"),
    botocore.exceptions.TokenRetrievalError(provider="sso", error_msg="no"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError("Generic S3 error: Error performing GET: 403 Forbidden: <Code>AccessDenied</Code>"),
    OSError("Generic LocalFileSystem error: Unable to create file: Permission denied (os error 13)"),
]
FULL = [OSError(errno.ENOSPC, "x"), OSError("Generic LocalFileSystem error: No space left on device (os error 28)")]


def client_error(code: str) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "said so"}}, "GetObject")


@pytest.mark.parametrize("error", [*MAY_PASS, *map(s3fs.errors.translate_boto_error, map(client_error, ["SlowDown"]))])
def test_what_may_pass_is_transient_and_names_the_store_and_the_error(error):
    name = "Generic S3 error" if "Generic S3" in str(error) else type(error).__name__
    with pytest.raises(Transient, match=f"writing {BUCKET} failed .{name}.: look at .* network") as got:
        with store_errors(f"writing {BUCKET}"):
            raise error
    assert got.value.__cause__ is error


@pytest.mark.parametrize("error", [*REFUSED, s3fs.errors.translate_boto_error(client_error("ExpiredToken"))])
def test_wrong_credentials_and_permissions_are_a_setting(error):
    with pytest.raises(BadConfig, match=f"reading {BUCKET} was refused .*: look at credentials") as got:
        with store_errors(f"reading {BUCKET}"):
            raise error
    assert got.value.key == "workspace"


@pytest.mark.parametrize(
    "error", [s3fs.errors.translate_boto_error(client_error("NoSuchBucket")), OSError("NoSuchBucket")]
)
def test_a_bucket_that_is_not_there_is_a_setting(error):
    with pytest.raises(BadConfig, match="there is no such bucket: make it, or name another one") as got:
        with store_errors(f"reading {BUCKET}", key="audio"):
            raise error
    assert got.value.key == "audio"


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_said(error):
    with pytest.raises(Transient, match="writing here failed: no space left on the disk: make room, then run"):
        with store_errors("writing here"):
            raise error


def test_a_used_up_quota_and_a_read_only_disk_are_said():
    with pytest.raises(Transient, match="your disk quota is used up: make room"), store_errors("writing here"):
        raise OSError(errno.EDQUOT, "x")
    with pytest.raises(BadConfig, match="the file system is read-only"), store_errors("writing here"):
        raise OSError(errno.EROFS, "x")


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("ours"), BadItem("ours"), ZeroDivisionError()])
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)) as got, store_errors("reading"):
        raise error
    assert got.value is error


def test_a_call_that_is_wrong_is_a_bug_and_passes_through():
    with pytest.raises(botocore.exceptions.ParamValidationError), store_errors("reading"):
        raise botocore.exceptions.ParamValidationError(report="start is no version")


PYTHON_IN_DUCKDB = 'Traceback (most recent call last):\n  File "a.py", line 2, in info\n{}\n\nLINE 1: select'


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (duckdb.Error(PYTHON_IN_DUCKDB.format("ConnectionClosedError: closed")), Transient, "ConnectionClosedError"),
        (duckdb.Error(PYTHON_IN_DUCKDB.format("NoCredentialsError: none")), BadConfig, "was refused"),
        (duckdb.IOException("IO Error: No space left on device"), Transient, "no space left on the disk"),
        (duckdb.IOException("IO Error: No files found that match 'x'"), Transient, "gone"),
        (duckdb.InvalidInputException("No magic bytes found at end of file 'x.parquet'"), BadConfig, "damaged"),
        (duckdb.ParserException("syntax error"), duckdb.ParserException, "syntax"),
    ],
)
def test_a_store_that_fails_within_duckdb_is_told_apart(error, kind, said):
    with pytest.raises(kind, match=said), reading():
        raise error


def test_an_error_known_by_its_text_alone_is_told_apart():
    assert isinstance(of_text("DeltaError: No space left on device (os error 28)", "writing"), Transient)
    assert isinstance(of_text("DeltaError: 401 Unauthorized", "writing"), BadConfig)
