"""Parsing and formatting of prompts with placeholders."""

import pytest

from aai.errors import BadItem
from aai.inject.prompt import Prompt, Slot, parse


@pytest.mark.parametrize(
    ("text", "pieces", "slots"),
    [
        ("", [""], []),
        ("a city", ["a city"], []),
        ("a photo of *", ["a photo of ", ""], [Slot()]),
        ("* and *", ["", " and ", ""], [Slot(), Slot()]),
        ("a photo of *rain and *fire:0.6.", ["a photo of ", " and ", "."], [Slot("rain"), Slot("fire", 0.6)]),
        ("*:0.6, *b2_c-d:-1.5", ["", ", ", ""], [Slot("", 0.6), Slot("b2_c-d", -1.5)]),
        ("*:2*:+2", ["", "", ""], [Slot("", 2.0)] * 2),
        ("(*), *'s, *!", ["(", "), ", "'s, ", "!"], [Slot()] * 3),
        ("*: a picture, *fire:", ["", ": a picture, ", ":"], [Slot(), Slot("fire")]),
        ("*2 *-a *_b * c", ["", "2 ", "-a ", "_b ", " c"], [Slot()] * 4),
        ("*rain- *éclair:.5.", ["", "- ", "."], [Slot("rain"), Slot("éclair", 0.5)]),
        ("a \n* {label}", ["a \n", " {label}"], [Slot()]),
    ],
)
def test_a_prompt_is_parsed_into_pieces_and_slots(text, pieces, slots):
    prompt = parse(text)
    assert prompt == Prompt(tuple(pieces), tuple(slots))
    assert parse(str(prompt)) == prompt


@pytest.mark.parametrize("text", ["a photo of *", "*rain, *fire:0.6 *rain", "a city:*'s (*)!", "*:-0.25 in the *b"])
def test_formatting_a_parsed_prompt_gives_the_same_text(text):
    assert str(parse(text)) == text


def test_a_strength_has_one_text_form():
    assert str(parse("*:1.00, *a:0.50 *b:+.5 *c:0.1234567 *d:-0")) == "*, *a:0.5 *b:0.5 *c:0.123457 *d:-0"


def test_names_are_distinct_and_in_order():
    prompt = parse("*fire and * and *rain:0.5 and *fire")
    assert prompt.names == ("fire", "", "rain") and prompt.scaled == {"rain": 0.5}


def test_words_replace_placeholders():
    words = {"": "snow", "rain": "heavy rain"}
    assert parse("*, *rain:0.5 and *.").in_words(words) == "snow, heavy rain and snow."


@pytest.mark.parametrize("piece", ["rain", "-x", ":0.5", "é", "1"])
def test_text_after_a_slot_is_not_parsed_as_part_of_it(piece):
    prompt = Prompt(("a ", piece), (Slot("fire", 0.5),))
    assert parse(str(prompt)).slots == prompt.slots and str(prompt).endswith(piece)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a *:2.1", r"\*:2.1: a strength is from -2 to 2"),
        ("a *:nan", r"\*:nan: a strength is from -2 to 2"),
        ("a *:strong city", r"\*:strong: 'strong' is not a number"),
        ("a *fire:-3", r"\*fire:-3: a strength is from -2 to 2"),
        ("a *:1e400", "from -2 to 2"),
        ("a *fire:0.6x", r"\*fire:0.6x: '0.6x' is not a number: write a strength as in \*:0.6"),
        ("a *:0.6.1", "'0.6.1' is not a number"),
        ("*fire:0.5 by *fire", r"\*fire has two strengths, 0.5 and 1: give it one everywhere"),
    ],
)
def test_an_invalid_strength_is_rejected(text, sentence):
    with pytest.raises(BadItem, match=sentence):
        parse(text)
