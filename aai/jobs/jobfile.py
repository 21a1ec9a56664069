"""Job files: jobs as people write them.

A job file is a YAML list of jobs, or a mapping with `jobs` and `defaults` for all of them. A job is a prompt in which
`*` stands for a sound (see `aai.inject.prompt`), a choice of cues, and whatever it wants otherwise than the
configuration has it under `render`.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aai.edit.options import STYLISED, EditOptions
from aai.errors import BadConfig
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job
from aai.jobs.selection import Blend, CueFilter
from aai.models.options import RenderOptions
from aai.options import PLACEHOLDER

_FOR_ALL = "batch_size"  # the one option of rendering that is no matter of a job
_JOB_KEYS = {"prompt"} | set(Job.model_fields) - {"options", "place"}
_BLEND_KEYS = [str(field.alias or name) for name, field in Blend.model_fields.items()]
_EDIT_KEYS = list(EditOptions.model_fields)
_PATHS = ("source_images", "source_masks")
_OF_SOURCES = ("source_prompt", *_PATHS, "edit")
_NOT_OF_PHOTOS = {"width": "photos keep their size", "height": "photos keep their size", "scheduler": "ddim serves all"}
_OPTION_KEYS = set(RenderOptions.model_fields) - {_FOR_ALL}


def load_jobs(path: str | Path, options: RenderOptions) -> tuple[Job, ...]:
    """The jobs of a file; what one does not say is as in the options, and relative paths are meant from its folder.

    Raises:
        BadConfig: there is no such file, it is no YAML, or a job is wrong; the message names file, job and key.
    """
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadConfig(f"{path}: it cannot be read ({type(error).__name__}): name a file with jobs") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: no YAML file: {error}") from error
    return make_jobs(given, options, str(path), path.parent)


def make_jobs(given: Any, options: RenderOptions, source: str = "jobs", folder: Path | None = None) -> tuple[Job, ...]:
    """Jobs from Python: a list of mappings, or a mapping with `jobs` and `defaults`, as in a job file.

    Without a folder, relative paths are meant from where the program runs.

    Raises:
        BadConfig: a job is wrong; the message names the source, the job and the key.
    """
    defaults: Any = {}
    if isinstance(given, Mapping):
        if unknown := sorted(map(str, given.keys() - {"jobs", "defaults"})):
            raise BadConfig(f"{source}: {unknown[0]}: a file of jobs is a list, or has the keys `jobs` and `defaults`")
        given, defaults = given.get("jobs"), given.get("defaults") or {}
    if not isinstance(given, list | tuple) or not given:
        raise BadConfig(f"{source}: it holds no jobs: write a list, each item with a `prompt` such as 'a photo of *'")
    _check_keys(defaults, f"{source}: defaults")
    jobs: dict[str, Job] = {}
    for number, each in enumerate(given, start=1):
        name = f" ({each['name']})" if isinstance(each, Mapping) and "name" in each else ""
        place = f"{source}: job {number}{name}"
        job = _make_job(each, defaults, options, {"name": f"job {number}", "place": place})
        if folder:
            job = job.model_copy(update={key: _placed(getattr(job, key), folder) for key in _PATHS})
        if job.name in jobs:
            raise BadConfig(f"{job.place}: name: {job.name!r} is taken by a job above: choose another")
        jobs[job.name] = job
    return tuple(jobs.values())


def _make_job(given: Any, defaults: Mapping[str, Any], options: RenderOptions, called: dict[str, str]) -> Job:
    where = called["place"]
    _check_keys(given, where)
    own = {"prompt", "prompts"} & given.keys()
    if len(own) == 2:
        raise BadConfig(f"{where}: prompt and prompts are both there: keep one")
    merged = {key: value for key, value in defaults.items() if not (own and key in ("prompt", "prompts"))} | given
    if not {"prompt", "prompts"} & merged.keys():
        raise BadConfig(f"{where}: prompt is missing: write one such as 'a photo of *'")
    asked = {key: value for key, value in merged.items() if key in _OPTION_KEYS}
    fields = {"prompts" if key == "prompt" else key: value for key, value in merged.items() if key in _JOB_KEYS}
    fields["edit"] = _edit_of(merged.get("mode"), defaults.get("edit"), given.get("edit"))
    try:
        chosen = RenderOptions.model_validate(options.model_dump() | asked)
        job = Job.model_validate(called | fields | {"options": chosen})
    except ValidationError as error:
        raise BadConfig(f"{where}: {'; '.join(_sentence(each) for each in error.errors())}") from error
    _check_uses(job, given)
    _check_sources(job, given)
    return job


def _edit_of(mode: Any, below: Any, above: Any) -> Any:
    """How pictures take after their sources: as the mode has it, then the defaults, then the job itself."""
    for given in (above, below):
        if not isinstance(given, Mapping | None):
            return given  # which is found to be wrong
    return (STYLISED if mode == "stylise" else {}) | dict(below or {}) | dict(above or {})


def _placed(paths: Sequence[str], folder: Path) -> tuple[str, ...]:
    return tuple(path if "://" in path else str(folder / Path(path).expanduser()) for path in paths)


def _check_sources(job: Job, own: Mapping[str, Any]) -> None:
    """Whether sources are said where they are needed, and what is said concerns any."""
    for key in _OF_SOURCES:
        if job.mode == "generate" and own.get(key) is not None:
            raise BadConfig(
                f"{job.place}: {key}: pictures that are generated have no source: set `mode` to edit or stylise"
            )
    if job.source_prompt is None and (job.mode == "edit" or (job.mode == "stylise" and job.source_images)):
        raise BadConfig(f"{job.place}: source_prompt is missing: say what is seen before, such as 'a city'")
    if job.source_masks and not job.source_images and own.get("source_masks") is not None:
        raise BadConfig(f"{job.place}: source_masks: there are no source_images that they could belong to: name these")
    if job.source_masks and job.edit.preserve == "none" and own.get("source_masks") is not None:
        raise BadConfig(f"{job.place}: source_masks: nothing is kept outside them: set edit.preserve to pixels")
    if job.mode == "stylise" and not job.has_source and own.get("edit") is not None:
        raise BadConfig(f"{job.place}: edit: there is no source without a source_prompt: write one, or leave it out")
    for key in own if job.photos else ():
        if key in _NOT_OF_PHOTOS:
            raise BadConfig(f"{job.place}: {key}: {_NOT_OF_PHOTOS[key]}: leave it out")
        if key == "seeds" and job.is_seedless:
            raise BadConfig(
                f"{job.place}: seeds: with edit.inversion: direct every seed gives the same picture: leave one out"
            )


def _check_uses(job: Job, own: Mapping[str, Any]) -> None:
    """Whether what a job says of its cues concerns any; defaults may be of use to other jobs."""
    names = [parse(prompt).names for prompt in job.prompts]
    used = {name for each in names for name in each}
    for name in own.get("named") or {}:
        if name not in used:
            raise BadConfig(f"{job.place}: named.{name}: no prompt has {PLACEHOLDER}{name}: put it into one")
    if job.blend:
        for prompt, each in zip(job.prompts, names, strict=True):
            if UNNAMED not in each:
                raise BadConfig(
                    f"{job.place}: blend: {prompt!r} has no {PLACEHOLDER} without a name, where the blend would stand"
                )
        if own.get("cues") is not None:
            raise BadConfig(f"{job.place}: blend and cues are both there: `blend` alone says which cues")
    elif own.get("cues") is not None and UNNAMED not in used:
        raise BadConfig(
            f"{job.place}: cues: no prompt has a {PLACEHOLDER} without a name: choose under `named` instead"
        )


def _check_keys(given: Any, where: str) -> None:
    if not isinstance(given, Mapping):
        raise BadConfig(f"{where}: {given!r} is no mapping: write keys and values, such as `prompt: a photo of *`")
    known = sorted(_JOB_KEYS | _OPTION_KEYS)
    for key in given:
        if key == _FOR_ALL:
            raise BadConfig(f"{where}: {key}: it is no matter of a job: set it under `render` in the configuration")
        if key not in known:
            raise BadConfig(f"{where}: {key}: {_no_such_key(str(key), known)}")


def _no_such_key(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"there is no such key: {'did you mean ' + close[0] if close else 'choose from ' + ', '.join(known)}"


def _sentence(error: Any) -> str:
    """One of pydantic's findings: the key and what is wrong with it."""
    path, text = error["loc"], str(error["msg"])
    known = list(CueFilter.model_fields)
    if path[:-1] in ((), ("blend",), ("edit",)):
        known = {"blend": _BLEND_KEYS, "edit": _EDIT_KEYS}.get(str(path[0]), known)
    match error["type"]:
        case "extra_forbidden":
            text = _no_such_key(str(path[-1]), known)
        case "missing":
            text = "it is missing: say which cues"
        case "string_type":
            text = f"{error['input']!r} is no text: write one, in quotes if need be"
        case "tuple_type":
            text = f"{error['input']!r}: write a text, or a list of texts"
        case "model_type" if path in (("blend",), ("edit",)):
            text = f"{error['input']!r}: write {', '.join(known)} below it"
        case "model_type":
            text = f"{error['input']!r}: write a condition in SQL, or {', '.join(CueFilter.model_fields)} below it"
        case "dict_type":
            what, of_each = ("words", "a factor for each") if path[0] == "edit" else ("names", "which cues each is")
            text = f"{error['input']!r}: write {what} below it, and {of_each}"
        case "value_error":
            text = text.removeprefix("Value error, ")
        case _:
            text = f"{error['input']!r}: {text[0].lower()}{text[1:]}"
    return f"{'.'.join(map(str, path)).replace('prompts', 'prompt')}: {text}"
