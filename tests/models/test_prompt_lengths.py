"""The plan knows which prompts are too long, as the text encoder does, and only if the tokenizer is at hand."""

import subprocess
import sys

import pytest

from aai.errors import BadItem
from aai.inject.prompt import parse
from aai.models.diffusion import load_diffusion
from aai.models.prompt_lengths import PromptLengths

PROMPTS = ["a city", "rain " * 75, "rain " * 76, "rain " * 73 + "*", "rain " * 74 + "*", "*a and *b " * 16, "é" * 50]


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_the_faults_are_those_of_the_text_encoders(request, kind):
    folder = request.getfixturevalue(f"{kind}_folder")
    lengths, [encoder, *_] = PromptLengths(folder), load_diffusion(folder).text_encoders
    found = [lengths.fault_of(prompt, 2) for prompt in PROMPTS]
    for prompt, fault in zip(PROMPTS, found, strict=True):
        try:
            encoder.token_ids([parse(prompt)], 2 * len(parse(prompt).names))
        except BadItem as error:
            assert fault == error.sentence
        else:
            assert fault is None
    assert [fault is None for fault in found] == [True, True, False, True, False, False, False]


def test_of_a_model_that_is_not_at_hand_nothing_is_known():
    assert PromptLengths("nobody/has-this-model", "0" * 40).fault_of("rain " * 1000, 2) is None


def test_a_short_prompt_needs_no_tokenizer_and_none_needs_torch(sd15_folder):
    code = (
        "import sys; from aai.models.prompt_lengths import PromptLengths as P; p = P(sys.argv[1]);"
        "print(p.fault_of('a city', 2) is None, 'transformers' in sys.modules,"
        " p.fault_of('rain ' * 99, 2) is None, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, sd15_folder], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "False", "False", "False"]
