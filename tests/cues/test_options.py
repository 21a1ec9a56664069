"""Options that would fail in the middle of a run are refused when they are read."""

import pytest
from pydantic import ValidationError

from aai.cues.options import FitOptions, TrainMapperOptions

BOTH = pytest.mark.parametrize("kind", [FitOptions, TrainMapperOptions])


def sentence_of(kind, **options) -> str:
    with pytest.raises(ValidationError) as caught:
        kind(**options)
    [error] = caught.value.errors()
    assert error["loc"] == tuple(options)
    return error["msg"]


@BOTH
def test_a_template_without_a_placeholder_is_refused(kind):
    sentence = sentence_of(kind, templates=("a photo of *", "a photo of rain"))
    assert sentence == "Value error, 'a photo of rain' has no *: write one where the cue goes"


@BOTH
def test_there_is_at_least_one_template(kind):
    assert "give at least one, as [a photo of *]" in sentence_of(kind, templates=())


@BOTH
def test_a_named_placeholder_and_the_defaults_are_accepted(kind):
    assert kind(templates=("a *rain city",)).templates == ("a *rain city",)
    assert kind(**kind().model_dump()) == kind()


@pytest.mark.parametrize("words", [(), ("rain", " ")])
def test_start_words_are_not_empty(words):
    assert "give at least one" in sentence_of(TrainMapperOptions, start_words=words)


def test_a_mapper_of_nine_tokens_is_refused():
    assert "less than or equal to 8" in sentence_of(FitOptions, num_tokens=9)


def test_a_place_is_for_the_training_of_the_mapper_alone():
    sentence = sentence_of(FitOptions, templates=("a photo of * in a {place}",))
    assert "only train_mapper.templates may have" in sentence
    assert TrainMapperOptions(templates=("a * {place}",)).templates == ("a * {place}",)
