"""Jobs: requests for pictures. Nothing here needs a workspace or a model."""

from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from aai.edit.options import EditOptions
from aai.errors import BadItem
from aai.format import shortened
from aai.identity import seed_of
from aai.inject.prompt import UNNAMED, Prompt, Slot, parse
from aai.jobs.selection import Blend, CueFilter
from aai.models.options import RenderOptions
from aai.options import PLACEHOLDER, Options

MAX_PROMPT_CHARS = 2_000
"""Far longer than a text encoder's context (75 tokens), and short enough for the metadata of every picture."""

_MAX_SEED = 2**63 - 1
_MAX_SEEDS = 1_000_000
MAX_CANDIDATES = 64

Measure = Literal["judge", "audio_judge", "clip_score"]
"""What the best of several candidates is chosen by."""

Location = Annotated[str, Field(min_length=1)]


class Job(Options):
    """A request for pictures: one for each combination of selected cue, prompt and seed.

    A prompt with several cue names takes one cue per name: the first of each selection, then the second, and so on.
    Shorter selections repeat.
    """

    name: str = Field(min_length=1)
    """Name of the job in the table `renders`."""

    position: str
    """Position in the job file, such as `jobs.yaml: job 3`, for messages."""

    file: str = ""
    """The job file, as an absolute path; empty for a job from Python."""

    prompts: tuple[str, ...]
    """Prompts. `*` is the cue, and {label} a column of the first clip's metadata. A prompt without `*` is rendered by
    the plain model, as a baseline: once per clip if it names metadata, else once."""

    cues: CueFilter = CueFilter()
    """Selection of cues for `*`."""

    named: dict[str, CueFilter] = {}
    """Selection of cues for each `*name`; by default the cues whose label is the name."""

    blend: Blend | None = None
    """Interpolation between two cues for `*`."""

    limit: int | None = Field(None, gt=0)
    """Maximum number of cues (of combinations, if a prompt has several cues), the first by their ids."""

    seeds: int | tuple[int, ...] = 1
    """Number of pictures per cue, or a list of seeds."""

    candidates: int = Field(1, ge=1, le=MAX_CANDIDATES)
    """Best of n: number of candidates, with different seeds, that are rendered for each picture; the best is kept."""

    chosen_by: Measure | None = None
    """Measure of the best candidate; null: the first that has a model which did not retrieve the cues' images."""

    negative_prompt: str = Field("", max_length=MAX_PROMPT_CHARS)
    """Negative prompt for classifier-free guidance."""

    mode: Literal["generate", "edit", "stylise"] = "generate"
    """generate: text-to-image. edit: a local edit of a source image. stylise: the whole source image changes, its
    layout is kept."""

    source_prompt: str | None = None
    """Prompt that describes the source image, such as `a city`. Without photos the source is generated from it, with
    the picture's seed."""

    source_images: tuple[Location, ...] = ()
    """Photos as source images, each for every cue: files, folders, globs or URLs."""

    source_masks: tuple[Location, ...] = ()
    """Edit masks with the photos' file names, white where an edit is allowed. Without them masks are computed."""

    edit: EditOptions = EditOptions()
    """Options of edits and stylisations."""

    options: RenderOptions = RenderOptions()
    """Options of rendering: the configuration's, with those that the job overrides."""

    @field_validator("cues", mode="before")
    @classmethod
    def _null_is_no_filter(cls, value: Any) -> Any:
        return CueFilter() if value is None else value

    @field_validator("named", mode="before")
    @classmethod
    def _null_is_no_name(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("named", mode="after")
    @classmethod
    def _check_names(cls, named: dict[str, CueFilter]) -> dict[str, CueFilter]:
        for name in named:
            if _parsed(f"{PLACEHOLDER}{name}").slots != (Slot(name),):
                raise ValueError(f"{name!r} is not a cue name: start with a letter, then also digits, _ and -")
        return named

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if not isinstance(value, str | list | tuple) or not value:
            raise ValueError(f"{shortened(value)}: write a text such as 'a photo of *', or a list of texts")
        return (value,) if isinstance(value, str) else value

    @field_validator("prompts", mode="after")
    @classmethod
    def _check_prompts(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        for prompt in prompts:
            _check_prompt(prompt)
        return prompts

    @field_validator("negative_prompt", mode="after")
    @classmethod
    def _check_negative_prompt(cls, prompt: str) -> str:
        if _parsed(prompt).slots:
            raise ValueError(f"{prompt!r} has a {PLACEHOLDER}, which only `prompt` may have: leave it out")
        return prompt

    @field_validator("source_images", "source_masks", mode="before")
    @classmethod
    def _none_one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else () if value is None else value

    @field_validator("source_prompt", mode="after")
    @classmethod
    def _check_source_prompt(cls, prompt: str | None) -> str | None:
        if prompt is not None and _parsed(prompt).slots:
            raise ValueError(f"{prompt!r} has a {PLACEHOLDER}, which only `prompt` may have: describe the source alone")
        _check_length(prompt or "")
        _check_fields(prompt or "")
        return prompt

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_or_list(cls, value: Any) -> Any:
        return checked_seeds(value)

    @property
    def has_source(self) -> bool:
        """Whether pictures are edits of a source image."""
        return self.mode != "generate" and self.source_prompt is not None

    @property
    def photos(self) -> tuple[str, ...]:
        """Locations of the photos that are edited; none if there are none."""
        return self.source_images if self.has_source else ()

    @property
    def shard_kind(self) -> str:
        """What the names of the shards with its pictures begin with."""
        return "masked-" * (self.has_source and self.edit.write_mask) + self.options.format

    @property
    def is_seedless(self) -> bool:
        """Whether seeds have no effect: DDIM inversion takes the noise from the photo."""
        return bool(self.photos) and self.edit.inversion == "direct"

    def seeds_under(self, run_seed: int) -> list[int]:
        """The seeds of each cue's pictures: the same for all cues, so that pictures differ by their sounds."""
        if self.is_seedless:
            return [0]
        if isinstance(self.seeds, tuple):
            return list(self.seeds)
        return seeds_under(run_seed, self.seeds)

    def filters_of(self, prompt: str) -> dict[str, CueFilter]:
        """The cue selections of one of the job's prompts, in order, by their keys in the job file.

        A blend has two. A prompt without `*` that names metadata has one, for the clips.
        """
        filters: dict[str, CueFilter] = {}
        names = parse(prompt).names
        if not names and (fields_of(prompt) or fields_of(self.source_prompt)):
            return {"cues": self.cues}
        for name in names:
            if name != UNNAMED:
                filters[f"named.{name}"] = self.named.get(name, CueFilter(labels=(name,)))
            elif self.blend:
                filters |= {"blend.from": self.blend.start, "blend.to": self.blend.end}
            else:
                filters["cues"] = self.cues
        return filters


def seeds_under(run_seed: int, num: int) -> list[int]:
    """The first seeds of a run's pictures, the same for all jobs."""
    return [seed_of(run_seed, "render", str(number), "noise") for number in range(num)]


def candidate_seeds(seed: int, num: int) -> list[int]:
    """The seeds of a picture's candidates: its own, then others that follow from it alone."""
    return [seed, *(seed_of(seed, "render", "", "candidate", number) for number in range(1, num))]


def fields_of(prompt: str | None) -> set[str]:
    """The metadata columns that a prompt names in braces."""
    return {field for _, field, _, _ in Formatter().parse(prompt or "") if field}


def fill(prompt: str, metadata: Mapping[str, Any]) -> str:
    """A prompt with the metadata of a clip filled in. A `*` in the metadata does not become a placeholder.

    Raises:
        BadItem: the clip lacks metadata that the prompt names, or the result is too long.
    """
    fields = fields_of(prompt)
    for field in sorted(fields):
        if metadata.get(field) in (None, ""):
            raise BadItem(f"the clip has no {field}, which the prompt {prompt!r} asks for: add it to the metadata")
    words = {field: str(metadata[field]).replace(PLACEHOLDER, " ") for field in fields}
    parsed = parse(prompt)
    filled = str(Prompt(tuple(piece.format(**words) for piece in parsed.pieces), parsed.slots))
    if len(filled) > MAX_PROMPT_CHARS:
        raise BadItem(f"the prompt has {len(filled):,} characters, more than {MAX_PROMPT_CHARS:,}: shorten the caption")
    return filled


def _check_prompt(prompt: str) -> None:
    _check_length(prompt)
    _parsed(prompt)
    _check_fields(prompt)


def _check_length(prompt: str) -> None:
    if len(prompt) > MAX_PROMPT_CHARS:
        raise ValueError(f"the text has {len(prompt):,} characters, more than {MAX_PROMPT_CHARS:,}: shorten it")


def _check_fields(prompt: str) -> None:
    try:
        parts = list(Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(f"{prompt!r} has an unmatched brace: write {{{{ for {{ and }}}} for }}") from error
    for _, field, spec, conversion in parts:
        if field is not None and (not field.isidentifier() or spec or conversion):
            raise ValueError(f"{prompt!r} has {{{field}}}: name a metadata column and nothing else, such as {{label}}")


def _parsed(prompt: str) -> Prompt:
    """A parsed prompt; its errors become those of a pydantic validator."""
    try:
        return parse(prompt)
    except BadItem as error:
        raise ValueError(str(error)) from error


def checked_seeds(value: Any) -> Any:
    """A number of seeds, or a list of seeds.

    Raises:
        ValueError: it is neither, or a seed is listed twice.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SEEDS:
        return value
    if isinstance(value, list | tuple) and value and all(_is_seed(seed) for seed in value):
        duplicate = next((seed for seed, count in Counter(value).items() if count > 1), None)
        if duplicate is not None:
            raise ValueError(f"{duplicate} is listed twice: leave one out")
        return tuple(value)
    raise ValueError(
        f"{shortened(value)}: give a number of pictures per cue, at most {_MAX_SEEDS:,}, or a list of seeds from 0 to "
        "2**63 - 1"
    )


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SEED
