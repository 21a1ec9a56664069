"""Tokens of captions for the text sides of CLIP and CLAP. Nothing is truncated."""

from collections.abc import Sequence
from textwrap import shorten

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from aai.errors import BadItem

_MAX_QUOTED = 80  # characters of a caption in a message
_NUM_SPECIAL = 2  # the start and the end token


def fault_of(caption: str, tokenizer: PreTrainedTokenizerBase, context: int) -> BadItem | None:
    """The error of a caption that is longer than the model's context, in tokens; none if it fits."""
    num = len(tokenizer(caption, verbose=False).input_ids)
    if num <= context:
        return None
    quoted = repr(shorten(caption, _MAX_QUOTED, placeholder=" …"))
    return BadItem(
        f"the caption {quoted} has {num - _NUM_SPECIAL} tokens, and the encoder reads "
        f"{context - _NUM_SPECIAL}: shorten it"
    )


def tokenise(
    captions: Sequence[str], tokenizer: PreTrainedTokenizerBase, context: int, device: torch.device
) -> BatchEncoding:
    """Token ids and attention mask of captions, padded to the longest.

    Raises:
        BadItem: a caption is longer than the model's context.
    """
    tokens = tokenizer(list(captions), padding=True, verbose=False, return_tensors="pt")
    if tokens["input_ids"].shape[1] > context:
        raise next(fault for caption in captions if (fault := fault_of(caption, tokenizer, context)))
    return tokens.to(device)
