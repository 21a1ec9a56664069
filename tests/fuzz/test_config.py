"""Any configuration is one, or is an error that names a key."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from aai.errors import BadConfig
from tasks.runtime.config import Config
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.stages import STAGES, load_config, make_config, sections_of
from tests.fuzz.inputs import mappings, near_text, options_like, texts, values
from tests.fuzz.outcome import outcome_of

_PLACES = texts | st.lists(texts, max_size=2)
_KEYS = {name: options_like(kind) for name, kind in sections_of(STAGES).items()} | {
    "profile": st.sampled_from(("tiny", "sd15", "sdxl", "huge")),
    "seed": st.integers(),
    "models": st.dictionaries(st.sampled_from(("clap", "clip", "diffusion", "judge")), texts, max_size=2),
    "pool": options_like(PoolOptions),
    "pools": st.dictionaries(st.sampled_from(("fit", "render", "cook")), options_like(PoolOptions), max_size=2),
    "run": options_like(RunOptions),
    **{name: _PLACES for name in ("workspace", "audio", "images", "metadata")},
}
configurations = st.lists(st.sampled_from(sorted(_KEYS)), max_size=3).flatmap(
    lambda names: mappings({name: _KEYS[name] for name in names} or {"seed": st.integers()})
)

_FILE = """\
workspace: bank
audio: [sounds, more/*.tar]
images: images
metadata: said.csv
profile: tiny
seed: 7
models: {}
ingest:
  audio: {max_duration_s: 60, window_s: 5, hop_s: 5}
  images: {background: [255, 255, 255]}
fit: {method: mapper}
pool: {num_workers: 0}
pools: {fit: {num_workers: 1}}
run: {max_reject_fraction: 0.5}
"""


@given(configurations.filter(lambda keys: isinstance(keys, dict) and all(isinstance(key, str) for key in keys)))
def test_a_configuration_from_python_is_one_or_an_error(keys):
    found = outcome_of(lambda: make_config(**keys))
    assert isinstance(found, Config | BadConfig)


@given(configurations | values)
def test_a_file_of_such_values_is_a_configuration_or_an_error(folder, keys):
    path = folder / "aai.yaml"
    try:
        path.write_text(yaml.safe_dump(keys, allow_unicode=True))
    except (yaml.YAMLError, UnicodeEncodeError):
        return
    found = outcome_of(lambda: load_config(path))
    assert not isinstance(found, Exception) or found.uri == str(path)


@given(near_text(_FILE))
def test_any_bytes_are_a_configuration_or_an_error(folder, data):
    path = folder / "bytes.yaml"
    path.write_bytes(data)
    found = outcome_of(lambda: load_config(path))
    assert not isinstance(found, Exception) or found.uri == str(path)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".yaml") == []
