"""What commands print: sentences instead of tracebacks, tables, progress, and an orderly end at a signal."""

import logging
import signal

import pytest
import typer

from aai.errors import BadConfig, BadItem, Transient
from flows.app.terminal import announced, pictures_line, progress, sentences, show_plan, show_summaries, stoppable
from tasks.render import RenderPlan
from tasks.runtime.driver import StageSummary
from tasks.runtime.estimates import Estimate
from tasks.views.plan import BuildPlan, StagePlan
from tests.bank import run_on


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BadConfig("choose 1 or more", key="fit.steps"), "aai: fit.steps: choose 1 or more\n"),
        (BadItem("it is silent: record it again", uri="rain.wav"), "aai: rain.wav: it is silent: record it again\n"),
        (Transient("the store failed"), "aai: the store failed\n"),
    ],
)
def test_an_error_of_the_project_is_a_sentence_with_exit_code_2(capsys, monkeypatch, error, line):
    monkeypatch.delenv("AAI_TRACEBACK", raising=False)
    with pytest.raises(typer.Exit) as ended, sentences():
        raise error
    assert ended.value.exit_code == 2 and capsys.readouterr().err == line


def test_on_request_and_for_bugs_the_traceback_stays(monkeypatch):
    with pytest.raises(ZeroDivisionError), sentences():
        raise ZeroDivisionError
    monkeypatch.setenv("AAI_TRACEBACK", "1")
    with pytest.raises(BadConfig), sentences():
        raise BadConfig("wrong")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_a_sentence_and_the_exit_code_of_shells(capsys, number, code):
    before = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(typer.Exit) as ended, stoppable():
        signal.raise_signal(number)
    assert ended.value.exit_code == code
    assert capsys.readouterr().err.startswith("aai: stopped; finished work is committed")
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_at_any_moment_of_a_command_ends_it_like_that():
    with pytest.raises(typer.Exit) as ended, sentences():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.exit_code == 143


def test_nohup_stays_in_force():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_progress_watches_the_run_and_shows_log_messages(capsys, tmp_path):
    run = run_on(tmp_path / "bank")
    logger, handlers = logging.getLogger("tasks"), list(logging.getLogger("tasks").handlers)
    with progress(run):
        assert run.watch is not None
        run.watch("fit")(3, 10, 1.5)
        logger.warning("two files are gone")
    assert "two files are gone" in capsys.readouterr().err
    assert logger.handlers == handlers


def test_a_plan_is_a_table_with_notes_below(capsys):
    stages = [
        StagePlan("embed_audio", done=1_200, new=34, stale=5, rejected=1, estimate=Estimate(90.0, "9 items")),
        StagePlan("fit", done=0, new=7, stale=0, rejected=0),
        StagePlan("retrieve", done=7, new=0, stale=0, rejected=0),
    ]
    show_plan(BuildPlan(stages, ["3 files are gone from the source folders"]))
    output = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in output.splitlines() if line.startswith("│")]
    assert rows[0][:5] == ["embed_audio", "1,200", "34", "5", "1"] and len(rows[0]) > 5
    assert rows[1] == ["fit", "0", "7", "0", "0", "unknown"]
    assert rows[2] == ["retrieve", "7", "0", "0", "0"]
    assert output.splitlines()[-1] == "3 files are gone from the source folders"


def test_summaries_are_a_table_with_rates(capsys):
    show_summaries([StageSummary.nothing("align", "ab12", 12)])
    assert "rejects" not in capsys.readouterr().out
    show_summaries([StageSummary("fit", "ab12", 3, 10, 2, 4.0), StageSummary.nothing("align", "ab12", 12)])
    output = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in output.splitlines() if line.startswith("│")]
    assert "the table `rejects` and `aai report` say which items were rejected" in output
    assert rows[0][:4] == ["fit", "3", "10", "2"] and rows[0][-1] == "3.0"
    assert rows[1][:4] == ["align", "12", "0", "0"]
    assert "each stage counts its own items" in output


@pytest.mark.parametrize(
    ("plan", "line"),
    [
        (RenderPlan(1_000, 0, 0, 0, Estimate(), []), "nothing to do: 1,000 pictures done"),
        (RenderPlan(10, 0, 4, 0, Estimate(), []), "nothing to do: 6 pictures done, 4 rejected"),
        (RenderPlan(10, 3, 0, 0, Estimate(), []), "3 pictures new (unknown time), 7 done"),
        (
            RenderPlan(10, 3, 0, 0, Estimate(), [], candidates=12),
            "3 pictures new, the best of 12 candidates (unknown time), 7 done",
        ),
        (
            RenderPlan(9, 3, 0, 2, Estimate(), []),
            "3 pictures new, of which 2 cannot be rendered (unknown time), 6 done",
        ),
    ],
)
def test_a_plan_of_pictures_is_a_line(plan, line):
    assert pictures_line(plan) == line


def test_a_plan_of_pictures_has_its_estimate():
    estimate = Estimate(90.0, "4 items in 2.0 s of work")
    line = "3 pictures new (about 1 min 30 s: 4 items in 2.0 s of work), 6 done, 1 rejected"
    assert pictures_line(RenderPlan(10, 3, 1, 0, estimate, [])) == line


def test_without_a_terminal_each_stage_that_did_something_is_a_line(capsys, monkeypatch):
    done = StageSummary("fit", "ab12", done=0, new=1_200, rejected=3, took_s=4.0)
    assert announced("fit", lambda run: done, None) is done
    assert capsys.readouterr().err == "fit: 1,200 new, 3 rejected in 4.0 s\n"
    announced("align", lambda run: StageSummary.nothing("align", "ab12", 5), None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    announced("fit", lambda run: done, None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")], ids=["python", "duckdb"])
def test_an_interrupt_outside_of_a_stage_ends_with_a_word(error, capsys):
    with pytest.raises(typer.Exit) as ended, sentences():
        raise error
    assert ended.value.exit_code == 130 and capsys.readouterr().err.startswith("aai: stopped; finished")


def test_another_runtime_error_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a bug"), sentences():
        raise RuntimeError("a bug")
