"""The prompts of a comparison: texts, or jobs with further keys, such as edits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aai.errors import BadItem
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.jobfile import resolved_paths
from aai.options import PLACEHOLDER

Prompt = str | dict[str, Any]

TRUE_MASKS = "true_masks"
"""Key of edits of photos: where the true masks are, which have their photo's file name."""

_PATHS = ("source_images", "source_masks", TRUE_MASKS)
_NOT_HERE = {
    "prompts": "write each prompt as an item of its own",
    "cues": "select clips under `clips`",
    "limit": "limit clips under `clips`",
    "named": "a prompt has one cue",
    "blend": "a prompt has one cue",
    "seeds": "`seeds` of the comparison apply",
}
_EDITS = ("edit", "stylise")


def text_of(prompt: Prompt) -> str:
    """The text of a prompt, with `*`."""
    return prompt if isinstance(prompt, str) else str(prompt["prompt"])


def name_of(prompt: Prompt) -> str:
    """The name of a prompt in tables: its text, unless it has another."""
    return prompt if isinstance(prompt, str) else str(prompt.get("name") or prompt["prompt"])


def is_edit(prompt: Prompt) -> bool:
    """Whether its pictures are made from source images."""
    if isinstance(prompt, str):
        return False
    return prompt.get("mode") in _EDITS and prompt.get("source_prompt") is not None


def job_keys(prompt: Prompt, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of its job by a method with changes of its own; edits with a mask have it written beside them."""
    own: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else prompt
    keys = {key: value for key, value in own.items() if key != TRUE_MASKS} | dict(changes)
    options = [given.get("edit") for given in (own, changes)]
    if is_edit(keys) and keys["mode"] == "edit" and all(isinstance(given, Mapping | None) for given in options):
        keys["edit"] = {key: value for given in options for key, value in (given or {}).items()} | {"write_mask": True}
    return keys


def true_masks_of(prompt: Prompt) -> tuple[str, ...]:
    """Where the true masks of its photos are; may name metadata in braces."""
    given = prompt.get(TRUE_MASKS, ()) if isinstance(prompt, dict) else ()
    return (given,) if isinstance(given, str) else tuple(given)


def checked(prompts: Sequence[Prompt]) -> None:
    """Check what does not depend on the configuration.

    Raises:
        ValueError: a prompt has not one cue, a name comes twice, or a key has no place in a comparison.
    """
    for prompt in prompts:
        text = prompt.get("prompt") if isinstance(prompt, dict) else prompt
        if not isinstance(text, str) or _names(text) != (UNNAMED,):
            raise ValueError(f"{text!r}: write one prompt with one {PLACEHOLDER} for the sound")
        for key, remedy in _NOT_HERE.items():
            if isinstance(prompt, dict) and key in prompt:
                raise ValueError(f"{text!r}: {key} has no effect here: {remedy}")
        if true_masks_of(prompt) and not (isinstance(prompt, dict) and prompt.get("source_images") and is_edit(prompt)):
            raise ValueError(f"{text!r}: {TRUE_MASKS} are for edits of photos: name these under source_images")
    names = [name_of(prompt) for prompt in prompts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two prompts are called {name!r}: give one of them another `name`")


def check_changes(job: Mapping[str, Any]) -> None:
    """Check the keys of jobs that differ for a method.

    Raises:
        ValueError: one of them has no effect in a comparison.
    """
    both = _NOT_HERE | dict.fromkeys(("prompt", "name"), "prompts are the same for all methods")
    for key, remedy in both.items():
        if key in job:
            raise ValueError(f"{key} has no effect here: {remedy}")


def resolved(prompts: Any, folder: Path) -> Any:
    """The same prompts with paths resolved against a folder; what is no prompt is left to be refused."""
    if isinstance(prompts, dict):
        return resolved([prompts], folder)
    return [_resolved(prompt, folder) for prompt in prompts] if isinstance(prompts, list) else prompts


def _resolved(prompt: Any, folder: Path) -> Any:
    if not isinstance(prompt, dict):
        return prompt
    given = {key: [value] if isinstance(value, str) else value for key, value in prompt.items() if key in _PATHS}
    paths = {key: list(resolved_paths(value, folder)) for key, value in given.items() if _are_texts(value)}
    return prompt | paths


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _names(prompt: str) -> tuple[str, ...]:
    """The cue names of a prompt.

    Raises:
        ValueError: a strength in it is not a number.
    """
    try:
        return parse(prompt).names
    except BadItem as error:
        raise ValueError(error.sentence) from error
