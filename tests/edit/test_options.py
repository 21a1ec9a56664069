"""Editing options: bounds, and the defaults of stylisation."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from aai.edit.options import STYLISED, EditOptions


@pytest.mark.parametrize(
    "options",
    [{"strength": 0}, {"strength": 1.1}, {"cross_fraction": -0.1}, {"self_fraction": 1.1}, {"self_side": 0}]
    + [{"preserve": "all"}, {"mask": "none"}, {"threshold": 0}, {"threshold": 1}, {"blend_from": 2}, {"grow": -1}]
    + [{"feather": 0}, {"inversion": "ddim"}, {"reweight": {"storm": "strong"}}, {"tau": 0.4}],
)
def test_values_out_of_bounds_and_unknown_keys_are_refused(options):
    with pytest.raises(ValidationError):
        EditOptions(**options)


def test_fractions_may_be_0_and_1():
    options = EditOptions(strength=1, cross_fraction=0, self_fraction=1, blend_from=1)
    assert (options.cross_fraction, options.self_fraction) == (0, 1)


def test_stylisation_keeps_the_layout_and_preserves_no_pixels():
    edit, stylised = EditOptions(), EditOptions(**STYLISED)
    assert stylised.preserve == "none" and stylised.self_fraction > edit.self_fraction
    assert stylised.strength < edit.strength


def test_pictures_made_before_an_option_existed_keep_their_texts():
    text = EditOptions(**STYLISED).text(is_photo=True)
    assert "guide_from" not in text and "write_mask" not in text
    assert EditOptions.from_text(text) == EditOptions(**STYLISED)
    assert EditOptions().text(is_photo=False) == EditOptions(guide_from="empty").text(is_photo=True)


@pytest.mark.parametrize("options", [EditOptions(), EditOptions(write_mask=True), EditOptions(guide_from="source")])
def test_the_text_of_options_of_photos_says_all(options):
    assert EditOptions.from_text(options.text(is_photo=True)) == options


def test_importing_the_options_imports_nothing_heavy():
    probe = "import sys, aai.edit.options; print(*sorted({'torch', 'diffusers', 'numpy'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
