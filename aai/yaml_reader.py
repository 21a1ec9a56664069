"""YAML from users: configuration, job files, values on the command line. All of it is read here.

Scalars are those of YAML 1.2: only `true` and `false` are booleans, and dates, `yes`, `on` and `12:30` are texts. Size,
depth and number of values are limited, aliases included, keys are texts and come once, and there are no tags. An error
names the file, the key and the line.
"""

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from aai.errors import BadConfig
from aai.format import shortened

MAX_BYTES = 10_000_000
"""Maximum size of a file."""

_MAX_DEPTH = 30
_MAX_VALUES = 1_000_000
"""An alias counts as often as it is used."""
_MAX_DIGITS = 100

_PREFIX = "tag:yaml.org,2002:"
_INDICATORS = "*&!%@`"
"""Characters with which YAML begins something else than a text."""

_TOO_DEEP = f"it is nested more than {_MAX_DEPTH} deep: look for a bracket that is not closed"
_FLOW = re.compile(r"(?:^|[:-]) *([{\[])")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_yaml(path: str | Path, remedy: str) -> Any:
    """The content of a YAML file.

    Args:
        path: the file.
        remedy: what to do if there is no such file.

    Raises:
        BadConfig: it cannot be read, or is not the YAML of one document; `uri` is the file.
    """
    path, uri = Path(path), str(path)
    try:
        if path.exists() and not path.is_file():
            raise BadConfig(f"it is not a file: {remedy}", uri=uri)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise BadConfig(f"there is no such file: {remedy}", uri=uri) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BadConfig(f"it cannot be read ({type(error).__name__}): {remedy}", uri=uri) from error
    if len(data) > MAX_BYTES:
        raise BadConfig(f"it has more than {MAX_BYTES:,} bytes: split it", uri=uri)
    return parse_yaml(_decoded(data, uri), uri=uri)


def parse_yaml(text: str, uri: str | None = None, key: str | None = None) -> Any:
    """The content of a YAML text; null if it is empty.

    Args:
        text: the text.
        uri: the file that it is from, for errors.
        key: the argument that it is from, for errors; it comes before the keys in the text.

    Raises:
        BadConfig: it is not the YAML of one document; `key` is the key at fault, if it is a single one's.
    """
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _Values().of(node, (key,) if key else ())
    except _Fault as fault:
        keys = ".".join(fault.keys)
        raise BadConfig(f"line {fault.line}: {fault.sentence}", uri=uri, key=keys or key) from fault
    except yaml.YAMLError as error:
        what = "file" if uri else "value"
        raise BadConfig(f"not a YAML {what}: {_explained(error, text)}", uri=uri, key=key) from error


def _decoded(data: bytes, uri: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadConfig(f"line {line} is not UTF-8: save the file as UTF-8", uri=uri) from error


class _Fault(Exception):
    """What is wrong with a value, with its line and its keys."""

    def __init__(self, sentence: str, node: yaml.Node, keys: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.sentence, self.line, self.keys = sentence, node.start_mark.line + 1, keys


class _Loader(yaml.SafeLoader):
    """Makes nodes of a text. It is used up to there: `_Values` makes values of them."""

    yaml_implicit_resolvers: dict[str, list] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node with all below it, up to the maximum depth."""
        if self._depth > _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, _TOO_DEEP, self.peek_event().start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|[0-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*)?\.[0-9_]*(?:[eE][-+]?[0-9]+)?(?<=[0-9.])(?<!^\.)(?<!^[-+]\.)", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), list(_first))


class _Values:
    """Makes values of nodes, and counts them."""

    def __init__(self) -> None:
        self._num = 0

    def of(self, node: yaml.Node, keys: tuple[str, ...]) -> Any:
        """The value of a node; `keys` lead to it.

        Raises:
            _Fault: it has none.
        """
        self._num += 1
        if self._num > _MAX_VALUES:
            raise _Fault(f"with its aliases the text has more than {_MAX_VALUES:,} values: leave some out", node)
        if len(keys) > _MAX_DEPTH:
            raise _Fault(_TOO_DEEP, node)
        match node.tag.removeprefix(_PREFIX), node:
            case "map", yaml.MappingNode():
                return self._mapping(node, keys)
            case "seq", yaml.SequenceNode():
                return [self.of(item, (*keys, str(number))) for number, item in enumerate(node.value, start=1)]
            case kind, yaml.ScalarNode() if kind in ("str", "int", "float", "bool", "null", "merge"):
                return _scalar(kind, node, keys)
        raise _Fault(f"there is no type {_tag_of(node)}: put quotes around a text that begins with !", node, keys)

    def _mapping(self, node: yaml.MappingNode, keys: tuple[str, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_PREFIX}merge":
                for values in self._merged(value_node, keys):
                    merged = values | merged
                continue
            key = _key(key_node, keys)
            line = key_node.start_mark.line + 1
            if key in own:
                sentence = f"it is given a second time, first in line {lines[key]}: keep one of them"
                raise _Fault(sentence, key_node, (*keys, key))
            lines[key] = line
            own[key] = self.of(value_node, (*keys, key))
        return merged | own

    def _merged(self, node: yaml.Node, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """The mappings that `<<` merges, the first of them with precedence."""
        value = self.of(node, (*keys, "<<"))
        for values in value if isinstance(value, list) else [value]:
            if not isinstance(values, dict):
                raise _Fault("it merges mappings only, such as `<<: *name`", node, (*keys, "<<"))
            yield values


def _key(node: yaml.Node, keys: tuple[str, ...]) -> str:
    if not (isinstance(node, yaml.ScalarNode) and node.tag == f"{_PREFIX}str"):
        shown = node.value if isinstance(node, yaml.ScalarNode) else "this"
        raise _Fault(f"{shown or 'null'} is a key and no text: put quotes around it", node, keys)
    key: Hashable = _scalar("str", node, keys)
    return str(key)


def _scalar(kind: str, node: yaml.ScalarNode, keys: tuple[str, ...]) -> Any:
    text = str(node.value)
    try:
        match kind:
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return _integer(text)
            case "float":
                return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").lower())
            case _:
                return _joined(text)
    except (KeyError, ValueError) as error:
        reason = error.args[0] if isinstance(error, _Refused) else f"{shortened(text)} is no {kind}: put quotes there"
        raise _Fault(reason, node, keys) from error


class _Refused(ValueError):
    """A scalar with a reason of its own."""


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _Refused(f"it is a number of {len(text):,} digits: put quotes around it if it is a text")
    digits = text.replace("_", "").lower()
    unsigned = digits.lstrip("+-")
    return int(digits, 16 if unsigned.startswith("0x") else 8 if unsigned.startswith("0o") else 10)


def _joined(text: str) -> str:
    """A text in which two surrogates, as JSON escapes characters such as emoji, become one character."""
    if not _SURROGATE.search(text):
        return text
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise _Refused("it has half of a character, such as \\ud83d: write both halves, or the character") from error


def _tag_of(node: yaml.Node) -> str:
    tag = str(node.tag)
    return f"!!{tag.removeprefix(_PREFIX)}" if tag.startswith(_PREFIX) else tag


def _explained(error: yaml.YAMLError, text: str) -> str:
    """What is wrong with a text that is no YAML, with line, column and remedy."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: it has the character U+{int(error.character):04X}: remove it"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    if mark is None:
        return str(problem)
    start = mark if getattr(error, "context", None) is None else getattr(error, "context_mark", None) or mark
    if "another document" in problem:
        start, problem = mark, "a second document begins, but a file has one: remove `---`, or write another file"
    return f"line {start.line + 1}, column {start.column + 1}: {problem}{_remedy(problem, text, start)}"


def _remedy(problem: str, text: str, start: yaml.Mark) -> str:
    line = (text.splitlines() or [""])[start.line : start.line + 1]
    rest = "".join(line)[start.column :]
    begins = _FLOW.search("".join(line)) if "<block end>" in problem else None
    if rest.startswith(tuple(_INDICATORS)):
        return f"; put quotes around a text that begins with {rest[0]}"
    if begins:
        return f"; put quotes around a text that begins with {begins.group(1)}"
    if rest.startswith("\t"):
        return "; indent with spaces, not tabs"
    return "; put quotes around a text with a colon" if "mapping values" in problem else ""
