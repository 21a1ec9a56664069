"""YAML from users becomes values within limits, or one sentence with file, key and line."""

import math

import pytest

from aai.errors import BadConfig
from aai.yaml_reader import MAX_BYTES, parse_yaml, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


def refused(text: str, uri: str = "jobs.yaml") -> BadConfig:
    with pytest.raises(BadConfig) as raised:
        parse_yaml(text, uri=uri)
    assert raised.value.uri == uri
    return raised.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[yes, no, on, off, y, n]", ["yes", "no", "on", "off", "y", "n"]),
        ("[true, False, null, ~, ]", [True, False, None, None]),
        ("[12:30, 1:30.5, 2024-01-31, 2024-13-45, 2024-01-01 10:00:00]",
         ["12:30", "1:30.5", "2024-01-31", "2024-13-45", "2024-01-01 10:00:00"]),
        ("[1, -2, +3, 1_000, 0x1F, 0o17, 017, 089]", [1, -2, 3, 1000, 31, 15, 17, 89]),
        ("[1.5, .5, 5., -1.5e3, -.inf]", [1.5, 0.5, 5.0, -1500.0, -math.inf]),
        ("[., -., '1', 1.2.3, 1e5, <<, =]", [".", "-.", "1", "1.2.3", "1e5", "<<", "="]),
        ("on: {yes: 1}", {"on": {"yes": 1}}),
        ("!!str 12", "12"),
        ("", None),
        ("# nothing", None),
        ("\ufeffa: 1", {"a": 1}),
        ("a: |\n  x\n  y", {"a": "x\ny"}),
        (r'a: "\ud83d\ude00 *"', {"a": "😀 *"}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("[&x {a: 1}, &y {a: 2, b: 3}, {<<: [*x, *y]}]", [{"a": 1}, {"a": 2, "b": 3}, {"a": 1, "b": 3}]),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2_so_that_texts_stay_texts(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "b.c", ("line 4", "line 3")),
        ("a: 1\r\nb: 2\r\na: 3", "a", ("line 3", "line 1")),
        ("- x: 1\n- y: 1\n  y: 2", "2.y", ("line 3",)),
        ("a: " + "1" * 5000, "a", ("line 1", "5,000 digits")),
        ('b: 1\na: "\\ud83d *"', "a", ("line 2", "half of a character")),
        ('a: "\\ude00\\ud83d"', "a", ("half of a character",)),
        ("a: !foo x", "a", ("line 1", "!foo")),
        ("a: !!python/object/apply:os.system [ls]", "a", ("!!python/object/apply:os.system",)),
        ("a: !!binary aGVsbG8=", "a", ("!!binary",)),
        ("a: !!int abc", "a", ("abc",)),
        ("y: {<<: 3}", "y.<<", ("merges mappings",)),
        ("1: 2", None, ("line 1", "1 is a key and no text")),
        ("a: {true: 2}", "a", ("true is a key",)),
        ("[a]: 2", None, ("is a key and no text",)),
        ('"\\ud83d": 2', None, ("half of a character",)),
    ],
)
def test_a_value_that_is_refused_is_named_with_its_key_and_line(text, key, words):
    error = refused(text)
    assert error.key == key and all(word in error.sentence for word in words)


@pytest.mark.parametrize(
    ("text", "begin"),
    [("- prompt: * city", "*"), ("- prompt: *city", "*"), ("- prompt: *rain and *fire", "*"), ("- {prompt: * a}", "*"),
     ("[* a]", "*"), ("- prompt: {label} in *", "{"), ("- prompt: [a] b", "["), ("- prompt: @x", "@"),
     ("- prompt: %x", "%"), ("- prompt: `x`", "`")],
)  # fmt: skip
def test_a_text_that_begins_like_something_else_needs_quotes(text, begin):
    error = refused(f"# one\n{text}\n")
    assert "line 2" in error.sentence and f"quotes around a text that begins with {begin}" in error.sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n\tb: 1", "line 2, column 1: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: b: c", "quotes around a text with a colon"),
        ("a: 1\nb: x\0y", "line 2: it has the character U+0000"),
        ("a: \ud83d", "line 1: it has the character U+D83D"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins"),
        (BOMB, "more than 1,000 values"),
        ("[" * 100_000, "nested more than 30 deep"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(50)), "line 31, column 31: it is nested more than 30 deep"),
        ("&a [*a]", "nested more than 30 deep"),
        ("&a {b: *a}", "nested more than 30 deep"),
        ("a: 'x", "found unexpected end of stream"),
    ],
    ids=range(11),
)
def test_a_text_that_is_no_yaml_or_too_much_is_refused_with_the_place(text, words, monkeypatch):
    monkeypatch.setattr("aai.yaml_reader._MAX_VALUES", 1_000)  # a million are counted in two seconds
    assert words in refused(text).sentence


def test_an_argument_is_named_before_the_keys_in_it():
    with pytest.raises(BadConfig) as raised:
        parse_yaml("{a: 1, a: 2}", key="--set fit")
    assert raised.value.key == "--set fit.a"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: 1\nb: \xff", "line 2 is not UTF-8"),
        ("a: 1".encode("utf-16"), "line 1 is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "more than 10,000,000 bytes"),
    ],
)
def test_a_file_is_utf_8_and_of_limited_size(tmp_path, data, words):
    path = tmp_path / "jobs.yaml"
    path.write_bytes(data)
    with pytest.raises(BadConfig, match=words) as raised:
        read_yaml(path, "name a job file")
    assert raised.value.uri == str(path)


@pytest.mark.parametrize("name", [".", "missing.yaml", "no\0name"])
def test_what_is_no_file_is_named_with_a_remedy(tmp_path, name):
    with pytest.raises(BadConfig, match="name a job file"):
        read_yaml(tmp_path / name, "name a job file")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "a.yaml", "") == {"a": 1}
