"""Job files: which pictures are wanted.

A job file is a YAML list of jobs, or a mapping with `jobs` and `defaults` for all of them. A job is a prompt in which
`*` stands for a sound (see `aai.prompt`), a choice of cues, and whatever it wants otherwise than the configuration has
it under `render`. Nothing here needs a workspace or a model.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from aai.choice import Blend, CueFilter
from aai.choice import choose as choose  # whoever reads jobs chooses cues
from aai.errors import BadConfig, BadItem
from aai.identity import seed_of
from aai.options import PLACEHOLDER, Options, RenderOptions
from aai.prompt import UNNAMED, Prompt, Slot, parse

MAX_PROMPT_CHARS = 2_000
"""Far more than a text encoder reads (75 tokens), and little enough to be written into every picture."""

_MAX_SEED = 2**63 - 1
_MAX_SEEDS = 1_000_000
_FOR_ALL = "batch_size"  # the one option of rendering that is no matter of a job


class Job(Options):
    """Pictures that are wanted: of every cue that is chosen, under every prompt, with every seed.

    Where several cues are in a prompt, the first of each come together, then the second, and so on; where one name has
    fewer cues than another, its first follows its last.
    """

    name: str = Field(min_length=1)
    """What it is called in the table `renders`."""

    place: str
    """Where it stands, as `jobs.yaml: job 3`: messages begin with that."""

    prompts: tuple[str, ...]
    """Each holds a `*` where the sound stands, and may hold what the metadata says of its first clip, as {label}."""

    cues: CueFilter = CueFilter()
    """Which cues stand at a star alone."""

    named: dict[str, CueFilter] = {}
    """Which cues stand at a star with a name; those whose label is that name where nothing is said here."""

    blend: Blend | None = None
    """Between which cues are those that stand at a star alone."""

    limit: int | None = Field(None, gt=0)
    """Most cues, the first by their ids; of several in a prompt, most combinations."""

    seeds: int | tuple[int, ...] = 1
    """How many pictures of each cue, or with which seeds."""

    negative_prompt: str = Field("", max_length=MAX_PROMPT_CHARS)
    """What the pictures are led away from."""

    options: RenderOptions = RenderOptions()
    """How they are rendered: the configuration's options, and what the job says otherwise."""

    @field_validator("cues", mode="before")
    @classmethod
    def _no_filter(cls, given: Any) -> Any:
        return CueFilter() if given is None else given

    @field_validator("named", mode="before")
    @classmethod
    def _no_names(cls, given: Any) -> Any:
        return {} if given is None else given

    @field_validator("named", mode="after")
    @classmethod
    def _can_be_written(cls, named: dict[str, CueFilter]) -> dict[str, CueFilter]:
        for name in named:
            if _parsed(f"{PLACEHOLDER}{name}").slots != (Slot(name),):
                raise ValueError(f"{name!r} is no name: begin with a letter, and use letters, digits, _ and - alone")
        return named

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        if not isinstance(given, str | list | tuple) or not given:
            raise ValueError(f"{given!r}: write a text such as 'a photo of *', or a list of such")
        return (given,) if isinstance(given, str) else given

    @field_validator("prompts", mode="after")
    @classmethod
    def _can_be_filled(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            _check_prompt(prompt)
        return prompts

    @field_validator("negative_prompt", mode="after")
    @classmethod
    def _has_no_placeholder(cls, prompt: str) -> str:
        if _parsed(prompt).slots:
            raise ValueError(f"{prompt!r} holds a {PLACEHOLDER}, which only `prompt` may: leave it out")
        return prompt

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_or_list(cls, given: Any) -> Any:
        return _checked_seeds(given)

    def seeds_under(self, run_seed: int) -> list[int]:
        """The seeds of each cue's pictures: the same for all cues, so that what differs is what is heard."""
        if isinstance(self.seeds, tuple):
            return list(self.seeds)
        return [seed_of(run_seed, "render", str(number), "noise") for number in range(self.seeds)]

    def filters_of(self, prompt: str) -> dict[str, CueFilter]:
        """Whose cues the pictures of one of its prompts are made of, in order, by the keys that say so in a job file.

        A blend is of two.
        """
        found: dict[str, CueFilter] = {}
        for name in parse(prompt).names:
            if name != UNNAMED:
                found[f"named.{name}"] = self.named.get(name, CueFilter(labels=(name,)))
            elif self.blend:
                found |= {"blend.from": self.blend.start, "blend.to": self.blend.end}
            else:
                found["cues"] = self.cues
        return found


_JOB_KEYS = {"prompt"} | set(Job.model_fields) - {"options", "place"}
_BLEND_KEYS = [str(field.alias or name) for name, field in Blend.model_fields.items()]
_OPTION_KEYS = set(RenderOptions.model_fields) - {_FOR_ALL}


def load_jobs(path: str | Path, options: RenderOptions) -> tuple[Job, ...]:
    """The jobs of a file; what one does not say is as in the options.

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
    return make_jobs(given, options, str(path))


def make_jobs(given: Any, options: RenderOptions, source: str = "jobs") -> tuple[Job, ...]:
    """Jobs from Python: a list of mappings, or a mapping with `jobs` and `defaults`, as in a job file.

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
        if job.name in jobs:
            raise BadConfig(f"{job.place}: name: {job.name!r} is taken by a job above: choose another")
        jobs[job.name] = job
    return tuple(jobs.values())


def fill(prompt: str, said: Mapping[str, Any]) -> str:
    """A prompt with what is said of a clip, as its label; nothing in there is, or belongs to, a placeholder.

    Raises:
        BadItem: something is not said of the clip that the prompt asks for, or it makes the prompt too long.
    """
    asked = {field for _, field, _, _ in Formatter().parse(prompt) if field}
    for field in sorted(asked):
        if said.get(field) in (None, ""):
            raise BadItem(f"the clip has no {field}, which the prompt {prompt!r} asks for: give one in the metadata")
    words = {field: str(said[field]).replace(PLACEHOLDER, " ") for field in asked}
    parsed = parse(prompt)
    filled = str(Prompt(tuple(piece.format(**words) for piece in parsed.pieces), parsed.slots))
    if len(filled) > MAX_PROMPT_CHARS:
        raise BadItem(f"the prompt has {len(filled):,} characters, more than {MAX_PROMPT_CHARS:,}: shorten the caption")
    return filled


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
    try:
        chosen = RenderOptions.model_validate(options.model_dump() | asked)
        job = Job.model_validate(called | fields | {"options": chosen})
    except ValidationError as error:
        raise BadConfig(f"{where}: {'; '.join(_sentence(each) for each in error.errors())}") from error
    _check_uses(job, given)
    return job


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
    known = _BLEND_KEYS if path[:-1] == ("blend",) or path == ("blend",) else list(CueFilter.model_fields)
    match error["type"]:
        case "extra_forbidden":
            text = _no_such_key(str(path[-1]), known)
        case "missing":
            text = "it is missing: say which cues"
        case "string_type":
            text = f"{error['input']!r} is no text: write one, in quotes if need be"
        case "model_type" if known == _BLEND_KEYS and path == ("blend",):
            text = f"{error['input']!r}: write {', '.join(known)} below it"
        case "model_type":
            text = f"{error['input']!r}: write a condition in SQL, or {', '.join(CueFilter.model_fields)} below it"
        case "dict_type":
            text = f"{error['input']!r}: write names below it, and which cues each is"
        case "value_error":
            text = text.removeprefix("Value error, ")
        case _:
            text = f"{error['input']!r}: {text[0].lower()}{text[1:]}"
    return f"{'.'.join(map(str, path)).replace('prompts', 'prompt')}: {text}"


def _check_prompt(prompt: str) -> None:
    if len(prompt) > MAX_PROMPT_CHARS:
        raise ValueError(f"it has {len(prompt):,} characters, more than {MAX_PROMPT_CHARS:,}: shorten it")
    if not _parsed(prompt).slots:
        raise ValueError(f"{prompt!r} has no {PLACEHOLDER} where the sound could stand: put one in")
    try:
        parts = list(Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(f"{prompt!r} has a brace alone: write {{{{ for {{ and }}}} for }}") from error
    for _, field, spec, conversion in parts:
        if field is not None and (not field.isidentifier() or spec or conversion):
            raise ValueError(f"{prompt!r} asks for {{{field}}}: name a column of the metadata alone, such as {{label}}")


def _parsed(prompt: str) -> Prompt:
    """A prompt, whose faults are here those of a value."""
    try:
        return parse(prompt)
    except BadItem as error:
        raise ValueError(str(error)) from error


def _checked_seeds(given: Any) -> Any:
    """A number of seeds, or seeds.

    Raises:
        ValueError: it is neither, or a seed comes twice.
    """
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= _MAX_SEEDS:
        return given
    if isinstance(given, list | tuple) and given and all(_is_seed(each) for each in given):
        twice = next((seed for seed, times in Counter(given).items() if times > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} comes twice: leave one out")
        return tuple(given)
    raise ValueError(
        f"{given!r}: give a number of pictures per cue, at most {_MAX_SEEDS:,}, or a list of seeds from 0 to 2**63 - 1"
    )


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SEED
