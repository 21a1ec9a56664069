"""The tokenizer: one token per word of the vocabulary, and a round trip to disk."""

import pytest
from transformers import CLIPTokenizer

from aai.tiny.training.tokenizer import MAX_TOKENS, PADDING, make_tokenizer, save_tokenizer
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption, words


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return make_tokenizer()


def test_every_known_word_is_one_token(tokenizer):
    assert {word: tokenizer.tokenize(word) for word in words()} == {word: [f"{word}</w>"] for word in words()}


def test_an_unknown_word_is_split_into_characters(tokenizer):
    assert tokenizer.tokenize("zebra!") == ["z", "e", "b", "r", "a</w>", "!</w>"]


def test_no_caption_is_truncated(tokenizer):
    longest = [caption("adjective", f"extreme {p}", b) for p in PHENOMENA for b in BACKGROUNDS]
    assert max(len(ids) for ids in tokenizer(longest).input_ids) <= MAX_TOKENS


def test_clap_has_a_separate_padding_token():
    tokenizer = make_tokenizer(padding=PADDING)
    assert tokenizer.pad_token_id == 0
    ids = tokenizer("strong rain", padding="max_length").input_ids
    assert ids[-1] == 0 and ids.count(tokenizer.eos_token_id) == 1


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer, tmp_path):
    again = save_tokenizer(tmp_path)
    assert again("a strong fire city").input_ids == tokenizer("a strong fire city").input_ids
    assert again.model_max_length == MAX_TOKENS
