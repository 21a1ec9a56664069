"""Any job file is read, or is an error that says what is wrong."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from aai.edit.options import EditOptions
from aai.jobs.jobfile import load_jobs, make_jobs
from aai.models.options import RenderOptions
from tests.fuzz.inputs import mappings, near_text, options_like, rarely, scalars, texts, values
from tests.fuzz.outcome import outcome_of

OPTIONS = RenderOptions()
_PROMPTS = st.sampled_from(("a photo of *", "*rain and *fire:0.5", "{label} of *", "a * city", "a city", "*", "*:3"))
_LABELS = st.sampled_from(("rain", "fire", "", "2"))
_FILTERS = _LABELS | mappings({"labels": _LABELS | st.lists(_LABELS, max_size=2), "clip_ids": _LABELS, "where": texts})
_JOB = {
    "name": texts,
    "prompts": st.lists(_PROMPTS, max_size=3),
    "cues": _FILTERS,
    "named": st.dictionaries(st.sampled_from(("rain", "fire", "1")), _FILTERS, max_size=2),
    "blend": mappings({"steps": st.integers(0, 9)}, {"from": _FILTERS, "to": _FILTERS}),
    "limit": st.integers(-1, 9),
    "seeds": st.integers(-1, 2_000_000) | st.lists(st.integers(0, 2**64), max_size=4),
    "negative_prompt": texts,
    "mode": st.sampled_from(("generate", "edit", "stylise", "draw")),
    "source_prompt": texts,
    "source_images": texts | st.lists(texts, max_size=2),
    "source_masks": texts,
    "edit": options_like(EditOptions),
}
_RENDER = {name: st.just(field.default) | scalars for name, field in RenderOptions.model_fields.items()}


def _few(keys: dict[str, st.SearchStrategy]) -> st.SearchStrategy:
    """Jobs with at most four of these keys: with all of them two would contradict each other."""
    return st.lists(st.sampled_from(sorted(keys)), max_size=4).flatmap(
        lambda names: mappings({name: keys[name] for name in names} or {"name": texts}, {"prompt": _PROMPTS})
    )


_JOBS = st.lists(_few(_JOB | _RENDER), min_size=1, max_size=3)
contents = rarely(values, _JOBS | mappings({"defaults": _few(_JOB | _RENDER)}, {"jobs": _JOBS}))

_FILE = """\
defaults: {steps: 8, seeds: 2, width: 64}
jobs:
  - prompt: "a photo of *"
    cues: {labels: [rain, fire], where: "duration_s > 2"}
  - name: both
    prompts: ["*rain and *fire:0.5", 'a {label} with *rain']
    named: {rain: {labels: rain}}
    negative_prompt: &n blurred
    seeds: [1, 2, 3]
  - {prompt: "a * city", mode: edit, source_prompt: a city, edit: {preserve: pixels}, negative_prompt: *n}
  - prompt: "*"
    blend: {from: label = 'rain', to: label = 'fire', steps: 4}
"""


@given(contents)
def test_jobs_from_python_are_jobs_or_an_error(content):
    jobs = outcome_of(lambda: make_jobs(content, OPTIONS))
    assert isinstance(jobs, Exception) or len({job.name for job in jobs}) == len(jobs)


@given(contents)
def test_a_job_file_of_such_values_is_read_or_an_error(folder, content):
    path = folder / "values.yaml"
    try:
        text = yaml.safe_dump(content, allow_unicode=True)
        path.write_text(text)
    except (yaml.YAMLError, UnicodeEncodeError):
        return
    outcome_of(lambda: load_jobs(path, OPTIONS))


@given(near_text(_FILE))
def test_any_bytes_are_a_job_file_or_an_error(folder, data):
    path = folder / "jobs.yaml"
    path.write_bytes(data)
    outcome_of(lambda: load_jobs(path, OPTIONS))
    assert path.read_bytes() == data
