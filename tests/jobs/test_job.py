"""Job files: a good one becomes jobs, a bad one a sentence that says where and what to do."""

import subprocess
import sys

import pyarrow as pa
import pytest

from aai.errors import BadConfig, BadItem
from aai.identity import seed_of
from aai.jobs.job import fill
from aai.jobs.jobfile import load_jobs, make_jobs
from aai.jobs.selection import CueFilter
from aai.models.options import RenderOptions

OPTIONS = RenderOptions(steps=7, guidance=4.0)
CUES = pa.table(
    {
        "clip_id": ["a", "b", "c"],
        "label": ["rain", "fire", None],
        "duration_s": [1.0, 3.0, 2.0],
        "attributes": ['{"intensity": "0.9"}', None, '{"intensity": "0.1"}'],
    }
)


def jobs_of(tmp_path, text: str):
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    return load_jobs(path, OPTIONS)


def one(**keys):
    return make_jobs([{"prompt": "a *"} | keys], OPTIONS)[0]


def test_a_job_says_what_it_wants_otherwise_than_the_defaults_and_these_otherwise_than_the_configuration(tmp_path):
    first, second = jobs_of(
        tmp_path,
        """
        defaults: {seeds: 4, steps: 20, format: jpg, prompt: "a photo of *"}
        jobs:
          - name: rain
            cues: {labels: rain, where: "duration_s > 2"}
            steps: 9
          - prompts: ["a * city", "in the style of *"]
            seeds: [1, 2]
            negative_prompt: people
            limit: 3
        """,
    )
    assert (first.name, first.prompts, first.seeds) == ("rain", ("a photo of *",), 4)
    assert first.cues == CueFilter(labels=("rain",), where="duration_s > 2")
    assert first.options == OPTIONS.model_copy(update={"steps": 9, "format": "jpg"})
    assert (second.name, second.prompts, second.seeds) == ("job 2", ("a * city", "in the style of *"), (1, 2))
    assert (second.options.steps, second.options.guidance) == (20, 4.0)
    assert (second.negative_prompt, second.limit, second.cues) == ("people", 3, CueFilter())


def test_a_list_is_a_job_file_too(tmp_path):
    [job] = jobs_of(tmp_path, '- {prompt: "a photo of *", cues: "label = \'rain\'"}')
    assert job.cues.where == "label = 'rain'" and job.options == OPTIONS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "jobs.yaml: it holds no jobs: write a list"),
        ("jobs: []", "it holds no jobs"),
        ("- {prompt: 'a *", "jobs.yaml: not a YAML file: line 1, column 12: found unexpected end of stream"),
        ("- prompt: * city", "line 1, column 11: expected alphabetic or numeric character, but found ' '; put quotes"),
        ("job: [{prompt: '*'}]", "job: a job file is a list, or has the keys"),
        ("defaults: {step: 3}\njobs: [{prompt: '*'}]", "defaults: step: there is no such key: did you mean steps"),
        ("- a photo of *", "job 1: 'a photo of *' is not a mapping"),
        ("- {steps: 3}", "job 1: prompt: it is missing: write one such as"),
        ("- {prompt: '*', prompts: ['*']}", "prompt: `prompts` is given, too: keep one"),
        ("- {prompt: 5}", "prompt: 5: write a text such as"),
        ("- {prompt: ['*', 5]}", "prompt.1: 5 is not a text"),
        ("- {prompt: 'a {label.x} *'}", "has {label.x}: name a metadata column and nothing else, such as {label}"),
        ("- {prompt: 'a {label!r} *'}", "has {label}: name a metadata column"),
        ("- {prompt: 'a {} *'}", "has {}: name a metadata column"),
        ("- {prompt: 'a { *'}", "has an unmatched brace: write {{ for {"),
        (f"- {{prompt: '{'*' * 2001}'}}", "2,001 characters, more than 2,000: shorten it"),
        ("- {prompt: '*', name: rain, stepz: 3}", "job 1 (rain): stepz: there is no such key: did you mean steps"),
        ("- {prompt: '*', '3': 3}", "3: there is no such key: choose from blend, candidates, chosen_by, cues, edit"),
        ("- {prompt: '*', steps: 0}", "steps: 0: input should be greater than 0"),
        ("- {prompt: '*', steps: many}", "steps: 'many': input should be a valid integer"),
        ("- {prompt: '*', guidance: .nan}", "guidance: nan: input should be"),
        ("- {prompt: '*', width: 65}", "width: 65: input should be a multiple of 8"),
        ("- {prompt: '*', format: gif}", "format: 'gif': input should be 'jpg', 'png' or 'webp'"),
        ("- {prompt: '*', quality: 101}", "quality: 101: input should be less than or equal to 100"),
        ("- {prompt: '*', scheduler: fast}", "scheduler: 'fast': input should be 'ddim'"),
        ("- {prompt: '*', batch_size: 4}", "batch_size: it cannot be set per job: set render.batch_size"),
        ("- {prompt: '*', seeds: 0}", "seeds: 0: give a number of pictures per cue"),
        ("- {prompt: '*', seeds: yes}", "seeds: 'yes': give a number"),
        ("- {prompt: '*', seeds: []}", "seeds: []: give a number"),
        ("- {prompt: '*', seeds: [1, -1]}", "or a list of seeds from 0"),
        ("- {prompt: '*', seeds: [4, 3, 4]}", "seeds: 4 is listed twice"),
        ("- {prompt: '*', limit: 0}", "limit: 0: input should be greater than 0"),
        ("- {prompt: '*', negative_prompt: 'no *'}", "has a *, which only `prompt` may"),
        ("- {prompt: '*', negative_prompt: fog, guidance: 1}", "job 1: negative_prompt: it has no effect without guid"),
        ("- {prompt: '*', cues: 5}", "cues: 5: write a condition in SQL, or labels, clip_ids, where below it"),
        ("- {prompt: '*', cues: {label: rain}}", "cues.label: there is no such key: did you mean labels"),
        ("- {prompt: '*', cues: {labels: [false]}}", "cues.labels.0: False is not a text"),
        ("- {prompt: 'a *:3'}", "prompt: *:3: a strength is from -2 to 2"),
        ("- {prompt: 'a *b:1 *b:0.5'}", "prompt: *b has two strengths, 1 and 0.5: give it one everywhere"),
        ("- {prompt: 'a *', negative_prompt: 'a *b'}", "'a *b' has a *, which only `prompt` may"),
        ("- {prompt: '*b', named: {b: 5}}", "named.b: 5: write a condition in SQL, or labels, clip_ids, where"),
        ("- {prompt: '*b', named: {b: {label: x}}}", "named.b.label: there is no such key: did you mean labels"),
        ("- {prompt: '*b', named: b}", "named: 'b': write names below it, with a cue selection for each"),
        ("- {prompt: '*b', named: {'b c': 'true'}}", "named: 'b c' is not a cue name: start with a letter"),
        ("- {prompt: '*b', named: {c: 'true'}}", "job 1: named.c: no prompt has *c: add it to one"),
        (
            "- {prompt: '*b', cues: {labels: c}}",
            "job 1: cues: no prompt has a * without a name: select cues under `named`",
        ),
        ("- {prompt: a photo, cues: {labels: c}}", "job 1: cues: no prompt has a * for the cue: add one"),
        ("- {prompt: a photo, blend: {from: 'true', to: 'true'}}", "blend: 'a photo' has no * without a name"),
        ("- {prompt: '*', blend: 5}", "blend: 5: write from, to, steps below it"),
        ("- {prompt: '*', blend: {from: 'true', steps: 3}}", "blend.to: it is missing: select cues"),
        ("- {prompt: '*', blend: {from: 'true', two: 'true'}}", "blend.two: there is no such key: did you mean to"),
        ("- {prompt: '*', blend: {from: {label: a}, to: ''}}", "blend.from.label: there is no such key: did you mean"),
        ("- {prompt: '*', blend: {from: 'true', to: 'true', steps: 1}}", "blend.steps: 1: input should be greater"),
        ("- {prompt: ['*', '*b'], blend: {from: 'true', to: 'true'}}", "blend: '*b' has no * without a name"),
        ("- {prompt: '*', cues: 'true', blend: {from: a, to: b}}", "blend: `cues` is given, too"),
        ("- {prompt: '*', name: a}\n- {prompt: '*', name: a}", "job 2 (a): name: an earlier job has the name 'a'"),
    ],
)
def test_a_bad_job_file_gets_a_sentence(tmp_path, text, said):
    with pytest.raises(BadConfig) as caught:
        jobs_of(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'jobs.yaml'}: ") and said in str(caught.value)


def test_a_job_file_that_cannot_be_read_gets_a_sentence(tmp_path):
    with pytest.raises(BadConfig, match="none.yaml: there is no such file: name a job file"):
        load_jobs(tmp_path / "none.yaml", OPTIONS)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfig, match="line 1 is not UTF-8"):
        load_jobs(tmp_path / "bytes.yaml", OPTIONS)


def test_prompts_are_filled_with_what_is_said_of_the_clip():
    said = {"label": "rain", "caption": "a * in the sky"}
    assert fill("a {label} * {{1}}, {caption}", said) == "a rain * {1}, a   in the sky"
    with pytest.raises(BadItem, match="has no caption"):
        fill("a {caption} *", {"label": "rain", "caption": None})
    assert fill("{level} * in the {place}", {"place": "city", "level": 0}) == "0 * in the city"
    with pytest.raises(BadItem, match="has no place"):
        fill("a * {place}", {"label": "rain"})
    with pytest.raises(BadItem, match="more than 2,000"):
        fill("a {caption} *", {"label": "rain", "caption": "x" * 2_000})


@pytest.mark.parametrize(
    ("prompt", "filled"),
    [
        ("*{label}", "* rain"),
        ("*fire{label}", "*fire rain"),
        ("*:0.50 {label}", "*:0.5 rain"),
        ("*:0.{level}", "*:0 .7"),
        ("*fire:{level}", "*fire :7"),
        ("*fire {star}", "*fire  rain:2"),
        ("{{*}}{label}", "{*}rain"),
    ],
)
def test_nothing_that_is_said_of_a_clip_becomes_a_part_of_a_placeholder(prompt, filled):
    assert fill(prompt, {"label": "rain", "level": 7, "star": "*rain:2"}) == filled


def test_each_name_of_a_prompt_has_its_cues():
    fire, weak, strong = CueFilter(where="fire"), CueFilter(where="weak"), CueFilter(where="strong")
    job = one(prompt="a *fire and *, *rain, *fire", cues="weak", named={"fire": "fire"})
    rain = CueFilter(labels=("rain",))
    assert list(job.filters_of(job.prompts[0]).items()) == [("named.fire", fire), ("cues", weak), ("named.rain", rain)]
    job = one(prompt="a *rain and *", blend={"from": "weak", "to": "strong", "steps": 5})
    assert list(job.filters_of(job.prompts[0]).values()) == [rain, weak, strong]
    assert job.blend.positions == (0, 0.25, 0.5, 0.75, 1)


def test_a_prompt_without_a_placeholder_has_cues_only_if_it_names_metadata():
    job = one(prompt=["a photo", "a photo of {label}"], cues="rain")
    assert job.filters_of("a photo") == {}
    assert job.filters_of("a photo of {label}") == {"cues": CueFilter(where="rain")}
    edit = one(prompt="a storm", mode="edit", source_prompt="a {place}")
    assert edit.filters_of("a storm") == {"cues": CueFilter()}


def test_defaults_may_choose_cues_that_not_every_job_names(tmp_path):
    first, second = jobs_of(
        tmp_path,
        """
        defaults: {named: {fire: {labels: blaze}}, cues: {labels: rain}}
        jobs: [{prompt: "a *fire"}, {prompt: "a *", named: }]
        """,
    )
    assert first.filters_of("a *fire") == {"named.fire": CueFilter(labels=("blaze",))}
    assert second.filters_of("a *fire") == {"named.fire": CueFilter(labels=("fire",))}


def test_seeds_have_an_address_or_are_given():
    seeds = one(seeds=3).seeds_under(5)
    assert seeds == [seed_of(5, "render", str(number), "noise") for number in range(3)]
    assert one(seeds=2).seeds_under(5) == seeds[:2]
    assert one(seeds=3).seeds_under(6) != seeds
    assert one(seeds=[8, 3]).seeds_under(5) == [8, 3]


def test_reading_jobs_loads_nothing_heavy():
    probe = "import sys, aai.jobs.job; print(*sorted({'torch', 'numpy', 'pyarrow', 'duckdb'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
