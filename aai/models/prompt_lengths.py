"""Whether prompts fit a pipeline's text encoder, found by its tokenizer without loading the model or torch."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from aai.inject import context
from aai.inject.prompt import parse
from aai.models.parts import read_part

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_TOKENIZER, _TEXT_ENCODER = "tokenizer", "text_encoder"
_NUM_SPECIAL = 2  # the start and the end token


class PromptLengths:
    """The tokens of prompts for a pipeline in a folder, or on the hub if it was loaded before.

    Of another one nothing is known: nothing is downloaded, and no prompt has a fault. The text encoders of SDXL have
    one vocabulary and one length.
    """

    def __init__(self, name: str | Path, revision: str | None = None) -> None:
        self._name, self._revision = name, revision

    def fault_of(self, prompt: str, num_tokens: int) -> str | None:
        """Why a prompt whose cues have `num_tokens` token vectors each is too long; none if it fits, or is unknown."""
        parsed, limit = parse(prompt), self._limit
        num_bytes = sum(len(piece.encode()) for piece in parsed.pieces)
        if limit is None or num_bytes + num_tokens * len(parsed.slots) <= limit or self._tokenizer is None:
            return None  # a token has at least one byte
        return self._fault_of(prompt, num_tokens)

    @lru_cache(maxsize=4_096)  # noqa: B019 - as long as the source of some jobs
    def _fault_of(self, prompt: str, num_tokens: int) -> str | None:
        assert self._tokenizer is not None and self._limit is not None, "checked before"
        parsed = parse(prompt)
        pieces = self._tokenizer(list(parsed.pieces), add_special_tokens=False, verbose=False).input_ids
        slots = [num_tokens] * len(parsed.slots)
        fault = context.fault_of(parsed, pieces, slots, self._limit, self._tokenizer.decode)
        return fault.sentence if fault else None

    @cached_property
    def _limit(self) -> int | None:
        tokenizer = read_part(self._name, self._revision, _TOKENIZER, "tokenizer_config.json").get("model_max_length")
        encoder = read_part(self._name, self._revision, _TEXT_ENCODER, "config.json").get("max_position_embeddings")
        return min(tokenizer, encoder) - _NUM_SPECIAL if tokenizer and encoder else None

    @cached_property
    def _tokenizer(self) -> "CLIPTokenizer | None":
        from transformers import CLIPTokenizer  # takes a second, which most plans do not need

        try:
            return CLIPTokenizer.from_pretrained(
                self._name, subfolder=_TOKENIZER, revision=self._revision, local_files_only=True
            )
        except (OSError, ValueError):
            return None
