"""The configuration that `aai init` writes is valid, complete and explained."""

import re

import pytest
import yaml

from aai.errors import BadConfig
from aai.profiles import PROFILES
from flows.app.config_template import template
from tasks.stages import load_config, make_config


def keys_of(values: dict, above: str = "") -> set[str]:
    """All keys of nested mappings, as `fit.steps`."""
    found = set()
    for key, value in values.items():
        found |= keys_of(value, f"{above}{key}.") if isinstance(value, dict) and value else {f"{above}{key}"}
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_the_file_is_a_configuration_with_the_defaults_of_its_profile(tmp_path, profile):
    path = tmp_path / "aai.yaml"
    path.write_text(template(profile))
    expected = make_config(
        profile=profile,
        audio=[f"{tmp_path}/sounds/"],
        images=[f"{tmp_path}/images/"],
        workspace=f"{tmp_path}/bank",
    )
    loaded = load_config(path)
    normal = expected.model_copy(update={"audio": loaded.audio, "images": loaded.images})
    assert loaded == normal
    assert [location.rstrip("/") for location in (*loaded.audio, *loaded.images)] == [
        f"{tmp_path}/sounds",
        f"{tmp_path}/images",
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_commented_lines_are_the_defaults(profile):
    """With every comment that is a setting turned on, the configuration is the same."""
    lines = template(profile).splitlines()
    on = [re.sub(r"^( *)# (\w+: (?:[\[{\"0-9-]|null|true|false).*)$", r"\1\2", line) for line in lines]
    whole, default = yaml.safe_load("\n".join(on)), make_config(profile=profile)
    assert make_config(**whole | {"audio": (), "images": ()}) == default
    assert keys_of({name: options.model_dump() for name, options in default.sections.items()}) <= keys_of(whole)


def test_every_setting_has_a_sentence_above_it():
    lines = template("sd15").splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if re.match(r"^ *(# )?\w+:( [\[{\"0-9-]| null| true| false|$)", line):
            assert above.lstrip().startswith("# "), line
    assert max(map(len, lines)) <= 140


def test_an_unknown_profile_is_refused():
    with pytest.raises(BadConfig, match="there is no 'huge': choose one of tiny, sd15, sdxl") as error:
        template("huge")
    assert error.value.key == "profile"
