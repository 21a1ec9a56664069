"""Job files: jobs in YAML.

A job file is a list of jobs, or a mapping with `jobs` and with `defaults` for all of them. A job is a prompt in which
`*` stands for a sound (see `aai.inject.prompt`), a selection of cues, and options that override `render` in the
configuration. Keys of errors begin with the file and the job, as in `jobs.yaml: job 3: seeds`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aai.edit.options import STYLISED, EditOptions
from aai.errors import BadConfig, no_such_key
from aai.format import shortened
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job
from aai.jobs.selection import Blend, CueFilter
from aai.models.options import RenderOptions
from aai.options import PLACEHOLDER
from aai.yaml_reader import read_yaml

_NOT_PER_JOB = ("batch_size", "shard_size")
_JOB_KEYS = {"prompt"} | set(Job.model_fields) - {"options", "position", "file"}
_BLEND_KEYS = [str(field.alias or name) for name, field in Blend.model_fields.items()]
_EDIT_KEYS = list(EditOptions.model_fields)
_PATHS = ("source_images", "source_masks")
_SOURCE_KEYS = ("source_prompt", *_PATHS, "edit")
_NOT_FOR_PHOTOS = {
    "width": "photos keep their size",
    "height": "photos keep their size",
    "scheduler": "photos are always edited with ddim",
}
_OPTION_KEYS = set(RenderOptions.model_fields)


def load_jobs(path: str | Path, options: RenderOptions) -> tuple[Job, ...]:
    """The jobs of a file. `options` are the defaults; relative paths are resolved against the file's folder.

    Raises:
        BadConfig: the file does not exist or is not YAML, or a job is wrong; `key` names the job and its key.
    """
    jobs = make_jobs(read_yaml(path, "name a job file"), options, str(path), Path(path).parent)
    return tuple(job.model_copy(update={"file": os.path.abspath(path)}) for job in jobs)


def make_jobs(
    content: Any, options: RenderOptions, source: str = "jobs", folder: Path | None = None
) -> tuple[Job, ...]:
    """Jobs from Python: a list of mappings, or a mapping with `jobs` and `defaults`, as in a job file.

    Args:
        content: the jobs.
        options: defaults of all jobs.
        source: where the jobs are from, for errors.
        folder: the folder of relative paths; by default the current one.

    Raises:
        BadConfig: a job is wrong; `key` names the job and its key.
    """
    defaults: Any = {}
    if isinstance(content, Mapping):
        if unknown := sorted(map(str, content.keys() - {"jobs", "defaults"})):
            raise BadConfig(
                "a job file is a list, or has the keys `jobs` and `defaults`", key=f"{source}: {unknown[0]}"
            )
        content, defaults = content.get("jobs"), content.get("defaults") or {}
    if not isinstance(content, list | tuple) or not content:
        raise BadConfig("it holds no jobs: write a list, each item with a `prompt` such as 'a photo of *'", key=source)
    _check_keys(defaults, f"{source}: defaults")
    jobs: dict[str, Job] = {}
    for number, item in enumerate(content, start=1):
        given = item.get("name") if isinstance(item, Mapping) else None
        name = f" ({given})" if isinstance(given, str) and given.isprintable() and given else ""
        position = f"{source}: job {number}{name}"
        job = _make_job(item, defaults, options, {"name": f"job {number}", "position": position})
        if folder:
            job = job.model_copy(update={key: resolved_paths(getattr(job, key), folder) for key in _PATHS})
        if job.name in jobs:
            raise BadConfig(f"an earlier job has the name {job.name!r}: choose another", key=f"{position}: name")
        jobs[job.name] = job
    return tuple(jobs.values())


def _make_job(item: Any, defaults: Mapping[str, Any], options: RenderOptions, names: dict[str, str]) -> Job:
    position = names["position"]
    _check_keys(item, position)
    own = {"prompt", "prompts"} & item.keys()
    if len(own) == 2:
        raise BadConfig("`prompts` is given, too: keep one of them", key=f"{position}: prompt")
    merged = {key: value for key, value in defaults.items() if not (own and key in ("prompt", "prompts"))} | item
    if not {"prompt", "prompts"} & merged.keys():
        raise BadConfig("it is missing: write one such as 'a photo of *'", key=f"{position}: prompt")
    changed = {key: value for key, value in merged.items() if key in _OPTION_KEYS}
    fields = {"prompts" if key == "prompt" else key: value for key, value in merged.items() if key in _JOB_KEYS}
    fields["edit"] = _edit_of(merged.get("mode"), defaults.get("edit"), item.get("edit"))
    try:
        merged_options = RenderOptions.model_validate(options.model_dump() | changed)
        job = Job.model_validate(names | fields | {"options": merged_options})
    except ValidationError as error:
        (first, sentence), *others = [_explained(detail) for detail in error.errors()]
        rest = "".join(f"; {key}: {text}" for key, text in others)
        raise BadConfig(sentence + rest, key=f"{position}: {first}") from error
    _check_selections(job, item)
    _check_sources(job, item)
    _check_photos(job, item)
    if item.get("chosen_by") and job.candidates == 1:
        raise _wrong(job, "chosen_by", "it has no effect with one candidate: raise candidates, or leave it out")
    for key in ("negative_prompt", "guidance_interval"):
        if item.get(key) and job.options.guidance <= 1:
            raise _wrong(job, key, "it has no effect without guidance: set guidance above 1, or leave it out")
    return job


def _edit_of(mode: Any, defaults: Any, own: Any) -> Any:
    """Edit options: those of the mode, replaced by the defaults, replaced by the job's own."""
    for value in (own, defaults):
        if not isinstance(value, Mapping | None):
            return value  # for the validation to reject
    return (STYLISED if mode == "stylise" else {}) | dict(defaults or {}) | dict(own or {})


def resolved_paths(paths: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Locations in a file of this folder; URLs stay."""
    return tuple(path if "://" in path else str(folder / os.path.expanduser(path)) for path in paths)


def _check_sources(job: Job, own: Mapping[str, Any]) -> None:
    """Check that keys about source images are complete, and are there only if pictures have a source."""
    for key in _SOURCE_KEYS:
        if job.mode == "generate" and own.get(key) is not None:
            raise _wrong(job, key, "generated pictures have no source: set `mode` to edit or stylise")
    if job.source_prompt is None and (job.mode == "edit" or (job.mode == "stylise" and job.source_images)):
        raise _wrong(job, "source_prompt", "it is missing: describe the source image, such as 'a city'")
    has_masks = bool(job.source_masks) and own.get("source_masks") is not None
    if has_masks and not job.source_images:
        raise _wrong(job, "source_masks", "there are no `source_images` that they could belong to: name these")
    if has_masks and job.edit.preserve == "none":
        raise _wrong(job, "source_masks", "masks have no effect if nothing is preserved: set edit.preserve to pixels")
    if job.mode == "stylise" and not job.has_source and own.get("edit") is not None:
        raise _wrong(job, "edit", "without a source_prompt there is no source to edit: write one, or leave `edit` out")


def _check_photos(job: Job, own: Mapping[str, Any]) -> None:
    """Check that a job with photos sets no options that have no effect on them."""
    for key in own if job.photos else ():
        if key in _NOT_FOR_PHOTOS:
            raise _wrong(job, key, f"{_NOT_FOR_PHOTOS[key]}: leave it out")
        if key == "seeds" and job.is_seedless:
            raise _wrong(
                job, key, "with edit.inversion: direct every seed gives the same picture: leave one of them out"
            )
    if job.is_seedless and job.candidates > 1:
        raise _wrong(job, "candidates", "with edit.inversion: direct all candidates are the same picture: set 1")


def _check_selections(job: Job, own: Mapping[str, Any]) -> None:
    """Check that a prompt uses each cue selection of the job itself; defaults may be for other jobs."""
    used = {key for prompt in job.prompts for key in job.filters_of(prompt)}
    for name in own.get("named") or {}:
        if f"named.{name}" not in used:
            raise _wrong(job, f"named.{name}", f"no prompt has {PLACEHOLDER}{name}: add it to one")
    if job.blend:
        for prompt in job.prompts:
            if UNNAMED not in parse(prompt).names:
                raise _wrong(job, "blend", f"{prompt!r} has no {PLACEHOLDER} without a name for the blend: add one")
        if own.get("cues") is not None:
            raise _wrong(job, "blend", "`cues` is given, too, but `blend` alone selects the cues: leave `cues` out")
    elif own.get("cues") is not None and "cues" not in used:
        if not any(parse(prompt).slots for prompt in job.prompts):
            raise _wrong(job, "cues", f"no prompt has a {PLACEHOLDER} for the cue: add one, or leave `cues` out")
        raise _wrong(job, "cues", f"no prompt has a {PLACEHOLDER} without a name: select cues under `named` instead")


def _wrong(job: Job, key: str, sentence: str) -> BadConfig:
    return BadConfig(sentence, key=f"{job.position}: {key}")


def _check_keys(item: Any, position: str) -> None:
    if not isinstance(item, Mapping):
        raise BadConfig(
            f"{shortened(item)} is not a mapping: write keys and values, such as `prompt: a photo of *`", key=position
        )
    known = sorted(_JOB_KEYS | _OPTION_KEYS)
    for key in item:
        if key in _NOT_PER_JOB:
            raise BadConfig(
                f"it cannot be set per job: set render.{key} in the configuration", key=f"{position}: {key}"
            )
        if key not in known:
            raise BadConfig(_no_such_key(str(key), known), key=f"{position}: {key}")


def _no_such_key(key: str, known: Sequence[str]) -> str:
    return no_such_key(key, known, f"choose from {', '.join(known)}")


def _explained(error: Any) -> tuple[str, str]:
    """The key of a pydantic error, and a sentence about it."""
    path, text = error["loc"], str(error["msg"])
    known = list(CueFilter.model_fields)
    if path[:-1] in ((), ("blend",), ("edit",)):
        known = {"blend": _BLEND_KEYS, "edit": _EDIT_KEYS}.get(str(path[0]), known)
    match error["type"]:
        case "extra_forbidden":
            text = _no_such_key(str(path[-1]), known)
        case "missing":
            text = "it is missing: select cues"
        case "string_type":
            text = f"{shortened(error['input'])} is not a text: write one, quoted if necessary"
        case "tuple_type":
            what = "two noise levels" if path[0] == "guidance_interval" else "a text, or a list of texts"
            text = f"{shortened(error['input'])}: write {what}"
        case "model_type" if path in (("blend",), ("edit",)):
            text = f"{shortened(error['input'])}: write {', '.join(known)} below it"
        case "model_type":
            keys = ", ".join(CueFilter.model_fields)
            text = f"{shortened(error['input'])}: write a condition in SQL, or {keys} below it"
        case "dict_type":
            items = ("words", "their factors") if path[0] == "edit" else ("names", "a cue selection for each")
            text = f"{shortened(error['input'])}: write {items[0]} below it, with {items[1]}"
        case "value_error":
            text = text.removeprefix("Value error, ")
        case _:
            text = f"{shortened(error['input'])}: {text[0].lower()}{text[1:]}"
    return ".".join(map(str, path)).replace("prompts", "prompt"), text
