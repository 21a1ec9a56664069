"""Errors carry what they are about as data, through pickling too, and say all of it as text."""

import pickle

import pytest

from aai.errors import AaiError, BadConfig, BadItem, Transient, Unavailable


@pytest.mark.parametrize("kind", [BadItem, Unavailable, Transient, BadConfig])
def test_an_error_survives_the_way_from_a_worker_with_all_its_data(kind):
    error = pickle.loads(pickle.dumps(kind("it is empty: copy it again", key="audio", uri="a.wav", id="12ab")))
    assert type(error) is kind and isinstance(error, AaiError)
    assert (error.sentence, error.key, error.uri, error.id) == ("it is empty: copy it again", "audio", "a.wav", "12ab")


def test_the_text_names_file_and_key_before_the_sentence():
    assert str(BadConfig("choose a number above 0", key="fit.steps", uri="aai.yaml")).startswith(
        "aai.yaml: fit.steps: c"
    )
    assert str(BadConfig("choose a number above 0", key="fit.steps")) == "fit.steps: choose a number above 0"
    assert str(BadItem("it is empty", uri="a.wav")) == "a.wav: it is empty"
    assert str(Transient("the store failed")) == "the store failed"


@pytest.mark.parametrize("kind", [BadItem, Unavailable, Transient, BadConfig])
def test_an_error_repeats_no_secret_of_a_url(kind):
    url = "https://ann:hunter2@example.org/a.wav?token=hunter2"
    error = kind(f"{url} does not answer: try again", uri=url)
    assert error.uri == "https://example.org/a.wav?…"
    assert "hunter2" not in str(error) + error.sentence + repr(error) + repr(pickle.loads(pickle.dumps(error)))
