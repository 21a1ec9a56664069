"""The file that describes a comparison: which methods, on which clips and prompts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aai.errors import BadConfig
from aai.jobs.job import checked_seeds
from aai.jobs.selection import CueFilter
from aai.options import Options
from aai.yaml_reader import read_yaml
from tasks.evaluate.prompts import Prompt, check_changes, checked, resolved
from tasks.runtime.config import read_options

_KEYS = "docs/EVALUATE.md lists all there are"
_OF_A_BANK = {"profile", "workspace", "audio", "images"}
_REMEDY = "write one as in docs/EVALUATE.md"


class Method(Options):
    """A way to make pictures of clips: a configuration derived from that of the bank, and what stands for the cue."""

    name: str = Field(min_length=1, max_length=60)
    """Name in tables and on the page. The name of a built-in method selects it; other keys change it."""

    set: dict[str, Any] = {}
    """Keys of the configuration that differ, such as `fit.steps: 48`, or nested as in its file."""

    prompt: Literal["cue", "label", "caption"] = "cue"
    """What stands for `*` in the prompts: the clip's cue; or, for the plain model, its label or caption."""

    pictures: Literal["rendered", "random", "retrieved"] = "rendered"
    """`rendered` by the text-to-image model; `random`: images of the collection, as the level of chance; `retrieved`:
    the image nearest to the clip."""

    job: dict[str, Any] = {}
    """Keys of jobs that differ from those of the prompts, such as `candidates: 4`."""

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            raise ValueError(f"{name!r}: write a name of letters in one line")
        return name

    @field_validator("job")
    @classmethod
    def _has_effect(cls, job: dict[str, Any]) -> dict[str, Any]:
        check_changes(job)
        return job

    @model_validator(mode="after")
    def _renders_what_is_changed(self) -> "Method":
        if self.job and self.pictures != "rendered":
            raise ValueError(f"{self.name!r} renders nothing: leave out `job`")
        return self

    @property
    def changes(self) -> dict[str, Any]:
        """The keys that differ, nested."""
        from tasks.runtime.config import merge

        nested: dict[str, Any] = {}
        for key, value in self.set.items():
            for part in reversed(key.split(".")):
                value = {part: value}
            nested = merge(nested, value)
        return nested

    @property
    def description(self) -> str:
        """What it is, in words."""
        differing = self.set | self.job
        keys = ", ".join(f"{key}: {value}" for key, value in differing.items())
        if self == METHODS.get(self.name) and self.name in _CUES:
            return f"{_CUES[self.name]} ({keys})"
        if self.pictures != "rendered":
            which = "drawn at random" if self.pictures == "random" else "nearest to the clip"
            return f"the image of the collection that is {which}"
        if self.prompt != "cue":
            changed = f" ({keys})" if keys else ""
            return f"the plain model, with the clip's {self.prompt} in place of the cue{changed}"
        return keys or "the configuration of the bank"

    @property
    def needs_cues(self) -> bool:
        """Whether its pictures are rendered from cues."""
        return self.prompt == "cue" and self.pictures == "rendered"


_CUES = {
    "adapter": "cues that are refined for each clip on the images retrieved for it",
    "mapper": "cues that one network predicts from the sound",
    "inversion": "textual inversion: cues that are learned for each clip from the images retrieved for it",
    "captions": "cues made of the captions that the encoder of sounds finds fitting, without training and images",
    "without-ear": "textual inversion on random images with the clip's label: nothing of the sound but its label",
}
_BY_LABEL = {"retrieve.method": "label"}
METHODS = {
    method.name: method
    for method in (
        Method(name="adapter", set={"fit.method": "adapter"}),
        Method(name="mapper", set={"fit.method": "mapper"}),
        Method(name="inversion", set={"fit.method": "inversion", "fit.steps": 48}),
        Method(name="captions", set={"fit.method": "captions"}),
        Method(name="label", prompt="label"),
        Method(name="caption", prompt="caption"),
        Method(name="without-ear", set={"fit.method": "inversion", "fit.steps": 48} | _BY_LABEL),
        Method(name="retrieved", pictures="retrieved"),
        Method(name="random", pictures="random"),
    )
}
"""The built-in methods."""

_DEFAULT = ("adapter", "mapper", "inversion", "captions", "label", "random")


class ComparedClips(CueFilter):
    """The clips of a comparison: those of the bank that meet all conditions."""

    limit: int = Field(200, gt=0)
    """Maximum number of clips, sampled evenly over the labels."""


class PictureOptions(Options):
    """Which pictures are compared: of which clips, with which prompts and seeds."""

    prompts: tuple[Prompt, ...] = Field(("a photo of *",), min_length=1)
    """Prompts with `*` for the sound. A prompt may be a job with further keys, such as mode, source_prompt and edit."""

    photos_per_clip: int | None = Field(None, gt=0)
    """Photos that each clip's edits of photos are made of, drawn for each clip; null: all of the prompt's."""

    clips: ComparedClips = ComparedClips()
    """Which clips: labels, clip_ids, where, and limit."""

    seeds: int | tuple[int, ...] = 1
    """Pictures per clip and prompt. Each clip has seeds of its own, the same for all methods; a list gives all clips
    the same seeds, so that one unlucky seed spoils all pictures."""

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        several = (given,) if isinstance(given, str | Mapping) else given
        for each in several if isinstance(several, list | tuple) else ():
            if not isinstance(each, str | Mapping):
                raise ValueError(f"{each!r}: write a prompt as a text, or as a job with the key `prompt`")
        return several

    @field_validator("prompts", mode="after")
    @classmethod
    def _have_a_cue(cls, prompts: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
        checked(prompts)
        return prompts

    @field_validator("seeds", mode="before")
    @classmethod
    def _checked_seeds(cls, given: Any) -> Any:
        return checked_seeds(given)

    @model_validator(mode="after")
    def _has_photos_to_draw(self) -> "PictureOptions":
        has_photos = any(isinstance(prompt, dict) and prompt.get("source_images") for prompt in self.prompts)
        if self.photos_per_clip is not None and not has_photos:
            raise ValueError("photos_per_clip: no prompt has source_images to draw from: leave it out")
        return self


class ComparisonOptions(PictureOptions):
    """Everything that can be configured about a comparison."""

    config: str = "aai.yaml"
    """Configuration of the bank. Each method's is derived from it, and all use its workspace."""

    output: str = "comparison"
    """Folder to write to: results.json, results.md, index.html, cells.parquet and pictures."""

    methods: tuple[Method, ...] = Field(tuple(METHODS[name] for name in _DEFAULT), min_length=1)
    """Methods: names of built-in ones, or a name with `set`, `job`, `prompt` or `pictures`."""

    reference: str | None = None
    """The method that the others are compared with; by default the first."""

    own_images: Literal["none", "names"] = "none"
    """`names`: the image with the name of a clip's recording, as a.jpg for a.flac, is the clip's own, and IIS compares
    pictures with it."""

    num_images: int = Field(2_000, gt=1)
    """Maximum number of images of the collection that KID and CMMD compare pictures with."""

    @field_validator("methods", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        several = (given,) if isinstance(given, str | Mapping) else given
        return [_method(each) for each in several] if isinstance(several, list | tuple) else given

    @field_validator("methods", mode="after")
    @classmethod
    def _distinct(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        names = [method.name for method in methods]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two methods have the name {name!r}: choose another for one of them")
        return methods

    @model_validator(mode="after")
    def _reference_is_a_method(self) -> "ComparisonOptions":
        names = [method.name for method in self.methods]
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: there is no method {self.reference!r}: choose from {', '.join(names)}")
        return self

    @property
    def compared_with(self) -> str:
        """The name of the reference method."""
        return self.reference or self.methods[0].name


def load_comparison(path: Path | None, given: Mapping[str, Any]) -> ComparisonOptions:
    """The comparison that a YAML file describes, with some keys replaced; paths are resolved against its folder.

    Without a file it is the default one.

    Raises:
        BadConfig: there is no such file, it is not YAML, or a key is wrong; `key` names it.
    """
    keys = read_yaml(path, _REMEDY) if path else {}
    if not isinstance(keys, dict | None):
        raise BadConfig(f"it holds no keys: {_REMEDY}", uri=str(path))
    keys = dict(keys or {})
    check_kind(keys, "methods", str(path))
    folder = path.parent if path else Path()
    keys.setdefault("config", ComparisonOptions.model_fields["config"].default)
    keys.setdefault("output", ComparisonOptions.model_fields["output"].default)
    for name in ("config", "output"):
        keys[name] = in_folder(keys[name], folder)
    if "prompts" in keys:
        keys["prompts"] = resolved(keys["prompts"], folder)
    return read_options(ComparisonOptions, keys | dict(given), _KEYS, str(path) if path else None)


def check_kind(keys: Mapping[str, Any], own: str, uri: str) -> None:
    """Check that a file describes what it is taken for: a bank's configuration or a sweep is easily named instead.

    Args:
        keys: its keys.
        own: the key that tells what it is taken for: `methods` of a comparison, `vary` of a sweep.
        uri: the file.

    Raises:
        BadConfig: it is something else.
    """
    if own in keys:
        return
    if "vary" in keys:
        raise BadConfig(f"it describes a sweep: `aai evaluate sweep {uri}`", uri=uri)
    if "methods" in keys:
        raise BadConfig(f"it describes a comparison: `aai evaluate {uri}`", uri=uri)
    if _OF_A_BANK & keys.keys():
        sentence = (
            "it is a bank's configuration: write a file as in docs/EVALUATE.md, with `config:` and this file's name"
        )
        raise BadConfig(sentence, uri=uri)


def in_folder(path: Any, folder: Path) -> Any:
    """A path resolved against a folder; URLs, and what is no path, as they are."""
    is_path = isinstance(path, str) and path.strip() and "://" not in path
    return str(folder / os.path.expanduser(path)) if is_path else path


def _method(given: Any) -> Any:
    """A method from its name, or from a name with what differs from a built-in one of that name."""
    if isinstance(given, str):
        if given not in METHODS:
            known = ", ".join(METHODS)
            raise ValueError(f"there is no method {given!r}: choose from {known}, or describe it with `name` and `set`")
        return METHODS[given]
    name = given.get("name") if isinstance(given, Mapping) else None
    if not (isinstance(name, str) and name in METHODS):
        return given
    differing = given.get("set", {})
    built_in = METHODS[name].model_dump()
    return built_in | given | {"set": built_in["set"] | differing if isinstance(differing, Mapping) else differing}
