"""The tiny world's tokenizer: every word of its captions is one token, other words are split into characters."""

import string
from pathlib import Path

from transformers import CLIPTokenizer

from aai.tiny.vocabulary import words

MAX_TOKENS = 24
START, END, PADDING, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "<|pad|>", "</w>"
_SPARE_WORDS = ("an", "and", "with", "at", "painting", "very", "image")


def make_tokenizer(padding: str = END) -> CLIPTokenizer:
    """A BPE tokenizer with merges that join each known word from left to right.

    Stable Diffusion and CLIP pad with the end token; RoBERTa, in CLAP, needs a separate padding token, with id 0.
    """
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in [*words(), *_SPARE_WORDS]:
        pieces = [*word[:-1], word[-1] + END_OF_WORD]
        while len(pieces) > 1:
            pairs = list(zip(pieces, pieces[1:], strict=False))
            pair = next((merge for merge in merges if merge in pairs), None)
            if pair is None:
                pair = pairs[0]
                merges.append(pair)
                tokens.append(pair[0] + pair[1])
            at = pairs.index(pair)
            pieces[at : at + 2] = [pair[0] + pair[1]]
    special = [padding] if padding != END else []
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*special, *tokens, START, END]))}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=padding, model_max_length=MAX_TOKENS)


def save_tokenizer(folder: Path) -> CLIPTokenizer:
    """Save the tokenizer, and return it as `from_pretrained` loads it."""
    make_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)
