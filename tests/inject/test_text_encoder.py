"""Tokenisation of prompts with cues, text encoding, and selection of conditioning."""

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from aai.errors import BadItem
from aai.inject.prompt import parse
from aai.inject.splice import NO_CUE
from aai.inject.text_encoder import Conditioning, TextEncoder, vector_ranges
from tests.models.shrunk import DIM, MAX_TOKENS


@pytest.fixture(scope="module")
def encoder(sd15_folder) -> TextEncoder:
    tokenizer = CLIPTokenizer.from_pretrained(sd15_folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(sd15_folder / "text_encoder").eval().requires_grad_(False)
    return TextEncoder(tokenizer, model)


def test_token_ids_are_the_tokenizers(encoder):
    texts = ["a strong rain", "", "fire " * 75]
    ids, indices = encoder.token_ids([parse(text) for text in texts])
    expected = encoder.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    assert torch.equal(ids, expected) and ids.shape == (3, MAX_TOKENS)
    assert bool((indices == NO_CUE).all())


def test_placeholders_get_the_indices_of_their_cues_vectors(encoder):
    _, indices = encoder.token_ids([parse("a *fire in *rain, *fire"), parse("*a *b")], 4)
    assert indices[0, :12].tolist() == [-1, -1, 0, 1, -1, 2, 3, -1, 0, 1, -1, -1]
    assert indices[1, :6].tolist() == [-1, 0, 1, 2, 3, -1]


def test_equal_prompts_of_a_batch_are_tokenised_once(encoder, monkeypatch):
    tokenised, tokenise = [], TextEncoder.tokenise
    monkeypatch.setattr(TextEncoder, "tokenise", lambda self, texts: tokenised.append(texts) or tokenise(self, texts))
    prompts = [parse(text) for text in ("a * city", "the *", "a * city", "the *", "a * city")]
    ids, indices = encoder.token_ids(prompts, 2)
    assert tokenised == [("a ", " city"), ("the ", "")]
    for index, prompt in enumerate(prompts):
        alone = encoder.token_ids([prompt], 2)
        assert torch.equal(ids[index], alone[0][0]) and torch.equal(indices[index], alone[1][0])


def test_the_hidden_states_are_the_models(encoder):
    ids, _ = encoder.token_ids([parse("a fire city")])
    last, penultimate, pooled = encoder.encode([parse("a fire city")], None)
    output = encoder.model(ids, output_hidden_states=True)
    assert torch.equal(last, output.last_hidden_state) and torch.equal(penultimate, output.hidden_states[-2])
    assert last.shape == (1, MAX_TOKENS, DIM) and pooled is None


def test_a_cue_of_word_embeddings_encodes_as_these_words(encoder):
    cue = torch.cat([encoder.word_embeddings([word]) for word in ("strong", "rain")])[None]
    with_cue, *_ = encoder.encode([parse("a * city")], cue)
    assert torch.allclose(with_cue, encoder.encode([parse("a strong rain city")], None)[0], atol=1e-5)


def test_a_word_without_tokens_is_an_error(encoder):
    with pytest.raises(BadItem, match="no tokens for the word ' ': use letters"):
        encoder.word_embeddings(["rain", " "])


def test_a_placeholder_without_a_cue_is_an_error(encoder):
    with pytest.raises(BadItem, match=r"prompt 'a \*fire': no cue for \*fire: give one"):
        encoder.token_ids([parse("a *fire")])


@pytest.mark.parametrize(
    ("prompt", "num_vectors", "sentence"),
    [
        (
            "rain " * 75 + "dark city",
            0,
            "has 77 tokens, and the text encoder reads 75: shorten it by its end, 'dark city'",
        ),
        (
            "fire * " + "rain " * 73 + "forest",
            2,
            "has 77 tokens, and .* reads 75: shorten it by its end, 'rain forest'",
        ),
        ("rain " * 74 + "*", 2, "has 76 tokens, and .* reads 75: shorten it by its end, '\\*'"),
        ("rain " * 74 + "*a *b", 4, "has 78 tokens, and .* reads 75: shorten it by its end, '\\*a \\*b'"),
    ],
)
def test_a_prompt_longer_than_the_context_is_an_error_and_never_cut_off(encoder, prompt, num_vectors, sentence):
    with pytest.raises(BadItem, match=sentence) as error:
        encoder.token_ids([parse("a city"), parse(prompt)], num_vectors)
    assert f"the prompt '{prompt[:20]}" in error.value.sentence and len(error.value.sentence) < 250


def test_a_prompt_that_fills_the_context_is_whole(encoder):
    ids, indices = encoder.token_ids([parse("rain " * 73 + "*")], 2)
    assert ids.shape == (1, MAX_TOKENS) and indices[0, -4:].tolist() == [NO_CUE, 0, 1, NO_CUE]


def test_cues_have_equal_ranges_of_vectors():
    assert vector_ranges(parse("*b or *a, *b"), 6) == {"b": range(3), "a": range(3, 6)}
    assert vector_ranges(parse("a city"), 0) == {}
    with pytest.raises(BadItem, match="3 vectors do not divide evenly among 2 cues"):
        vector_ranges(parse("*a and *b"), 3)


def test_elements_of_a_conditioning_can_be_selected_and_joined():
    both = Conditioning(torch.arange(6.0).view(3, 2, 1), torch.arange(3.0).view(3, 1))
    assert both[1:].pooled.tolist() == [[1], [2]]
    assert both[[2, 2, 0]].context[:, 0, 0].tolist() == [4, 4, 0]
    assert Conditioning(both.context)[:1].pooled is None
    joined = Conditioning.join([both[:1], both[1:]])
    assert torch.equal(joined.context, both.context) and torch.equal(joined.pooled, both.pooled)
    assert Conditioning.join([Conditioning(both.context)] * 2).pooled is None
