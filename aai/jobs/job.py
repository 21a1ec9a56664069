"""Jobs: which pictures are wanted. Nothing here needs a workspace or a model."""

from collections import Counter
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from aai.edit.options import EditOptions
from aai.errors import BadItem
from aai.identity import seed_of
from aai.inject.prompt import UNNAMED, Prompt, Slot, parse
from aai.jobs.selection import Blend, CueFilter
from aai.models.options import RenderOptions
from aai.options import PLACEHOLDER, Options

MAX_PROMPT_CHARS = 2_000
"""Far more than a text encoder reads (75 tokens), and little enough to be written into every picture."""

_MAX_SEED = 2**63 - 1
_MAX_SEEDS = 1_000_000

Place = Annotated[str, Field(min_length=1)]


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

    mode: Literal["generate", "edit", "stylise"] = "generate"
    """From the prompt alone, from a source of which all but what the cue brings is kept, or of which the layout is."""

    source_prompt: str | None = None
    """What the source shows, as `a city`; it is generated from that, with the picture's seed, if it is no photo."""

    source_images: tuple[Place, ...] = ()
    """Photos that are sources, each for every cue: files, folders, globs or URLs."""

    source_masks: tuple[Place, ...] = ()
    """Pictures called as the photos are, white where an edit is allowed; without, that is found out."""

    edit: EditOptions = EditOptions()
    """How pictures take after their sources."""

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

    @field_validator("source_images", "source_masks", mode="before")
    @classmethod
    def _none_one_or_many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else () if given is None else given

    @field_validator("source_prompt", mode="after")
    @classmethod
    def _shows_no_cue(cls, prompt: str | None) -> str | None:
        if prompt is not None and _parsed(prompt).slots:
            raise ValueError(f"{prompt!r} holds a {PLACEHOLDER}, which only `prompt` may: say what is there before")
        _check_length(prompt or "")
        _check_fields(prompt or "")
        return prompt

    @field_validator("seeds", mode="before")
    @classmethod
    def _number_or_list(cls, given: Any) -> Any:
        return _checked_seeds(given)

    @property
    def has_source(self) -> bool:
        """Whether pictures are made from others."""
        return self.mode != "generate" and self.source_prompt is not None

    @property
    def photos(self) -> tuple[str, ...]:
        """Where the photos are that pictures are made from; nowhere if they are made from none."""
        return self.source_images if self.has_source else ()

    @property
    def is_seedless(self) -> bool:
        """Whether every seed would give the same picture: inverted photos bring their own noise."""
        return bool(self.photos) and self.edit.inversion == "direct"

    def seeds_under(self, run_seed: int) -> list[int]:
        """The seeds of each cue's pictures: the same for all cues, so that what differs is what is heard."""
        if self.is_seedless:
            return [0]
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


def _check_prompt(prompt: str) -> None:
    _check_length(prompt)
    if not _parsed(prompt).slots:
        raise ValueError(f"{prompt!r} has no {PLACEHOLDER} where the sound could stand: put one in")
    _check_fields(prompt)


def _check_length(prompt: str) -> None:
    if len(prompt) > MAX_PROMPT_CHARS:
        raise ValueError(f"it has {len(prompt):,} characters, more than {MAX_PROMPT_CHARS:,}: shorten it")


def _check_fields(prompt: str) -> None:
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
