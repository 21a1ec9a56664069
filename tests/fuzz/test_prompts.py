"""Any text is a prompt, or an error that says why not."""

from hypothesis import given
from hypothesis import strategies as st

from aai.errors import AaiError
from aai.inject.prompt import Prompt, parse
from aai.jobs.job import Job, fill
from aai.jobs.jobfile import make_jobs
from aai.models.options import RenderOptions
from tests.fuzz.inputs import scalars
from tests.fuzz.outcome import outcome_of

_SIGNS = "*:{}!.-+_ 019eaxrain\u00e9\u0664\u00b2\u202e\n"
prompts = st.text(st.sampled_from(_SIGNS), max_size=40) | st.text(max_size=40)
metadata = st.dictionaries(st.sampled_from(("label", "caption", "licence", "a", "x")), scalars, max_size=4)


@given(prompts)
def test_a_parsed_prompt_is_the_same_after_it_was_written(text):
    found = outcome_of(lambda: parse(text))
    if isinstance(found, Prompt):
        assert len(found.pieces) == len(found.slots) + 1
        assert parse(str(found)).slots == found.slots


@given(prompts, metadata)
def test_metadata_fill_any_prompt_that_a_job_may_have(text, row):
    jobs = outcome_of(lambda: make_jobs([{"prompt": text}], RenderOptions()))
    if not isinstance(jobs, AaiError):
        filled = outcome_of(lambda: fill(text, row))
        assert isinstance(filled, AaiError) or parse(filled).names == parse(text).names


@given(prompts)
def test_the_selections_of_a_prompt_are_those_of_its_names(text):
    jobs = outcome_of(lambda: make_jobs([{"prompt": text}], RenderOptions()))
    if not isinstance(jobs, AaiError):
        [job] = jobs
        assert isinstance(job, Job) and len(job.filters_of(text)) >= len(parse(text).names)
