"""Texts for people: durations of two units, URLs without secrets, values of limited length."""

import pytest

from aai.format import duration, shortened, without_secrets


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (3.21, "3.2 s"),
        (60.0, "1 min 0 s"),
        (250.4, "4 min 10 s"),
        (3600.0, "1 h 0 min"),
        (7530.0, "2 h 5 min"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:pass@example.org/a.wav", "https://example.org/a.wav"),
        ("https://ann:p@ss@example.org:80/a@2x.png", "https://example.org:80/a@2x.png"),
        ("https://example.org/a.wav?token=1&key=2", "https://example.org/a.wav?…"),
        ("s3://bucket/a?.wav", "s3://bucket/a?…"),
        (
            "no 'http://ann:pass@here/x?y=1' and \"ftp://b@there/?z\" here",
            "no 'http://here/x?…' and \"ftp://there/?…\" here",
        ),
        ("simplecache::https://ann:pass@a.org/b", "simplecache::https://a.org/b"),
        ("postgresql+asyncpg://ann:pass@a.org/b", "postgresql+asyncpg://a.org/b"),
        ("sounds/a?.wav and ann@example.org: what?", "sounds/a?.wav and ann@example.org: what?"),
        ("a ?b://c d", "a ?b://c d"),
        ("http://me:hunter2/@127.0.0.1:9/api", "http://127.0.0.1:9/api"),
        ("http://minio:9000/bucket/a@2x.png", "http://minio:9000/bucket/a@2x.png"),
    ],
)
def test_users_passwords_and_queries_of_urls_are_not_shown(text, shown):
    assert without_secrets(text) == shown


def test_a_long_value_is_shortened():
    assert shortened("rain") == "'rain'"
    assert len(shortened("x" * 1000)) == len(shortened(list(range(1000)))) == len(shortened({"a": "b" * 200})) == 101
