"""Running a piece of work: what is said of a failure, and that an interrupt is no failure."""

import csv
import signal
from pathlib import Path

import dagster as dg
import pytest

from embed_pipeline.defs.running import execute, terse_console
from embed_pipeline.graph.catalogue import ALL, Job
from embed_pipeline.graph.work import Work

SENTENCE = "faq.csv, line 3: expected two cells, found one. Quote the cell."
WORK = Work(Job("make_broken", ("broken", "after"), "fails"), ALL, ("asked for",), "")


def run_with(fail, instance: dg.DagsterInstance | None = None) -> tuple[dg.DagsterInstance, tuple[str, ...]]:
    @dg.asset
    def broken() -> None:
        fail()

    @dg.asset(deps=[broken])
    def after() -> None: ...

    job = dg.define_asset_job(WORK.job.name, selection="*")
    definitions = dg.Definitions(assets=[broken, after], jobs=[job], loggers={"console": terse_console})
    instance = instance or dg.DagsterInstance.ephemeral()
    try:
        return instance, execute(definitions, WORK, instance)
    except KeyboardInterrupt:
        return instance, ("interrupted",)


def test_what_dagster_says_of_a_failure_is_left_to_the_ui(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ValueError(SENTENCE)

    assert run_with(fail)[1] == (f"{SENTENCE}",)
    assert "Execution of" not in "".join(capfd.readouterr())


def test_a_failure_is_told_in_the_words_that_left_the_asset_and_then_in_those_of_its_cause() -> None:
    def fail() -> None:
        try:
            raise csv.Error("',' expected after '\"'")
        except csv.Error as error:
            raise ValueError(SENTENCE) from error

    assert run_with(fail)[1] == (f"{SENTENCE}\nCause: _csv.Error: ',' expected after '\"'",)


def test_a_blocking_check_that_did_not_pass_is_named() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("every_row_is_read", asset="broken", blocking=True)])
    def broken() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False)])

    job = dg.define_asset_job(WORK.job.name, selection="*")
    definitions = dg.Definitions(assets=[broken], jobs=[job], loggers={"console": terse_console})
    told = execute(definitions, WORK, dg.DagsterInstance.ephemeral())
    assert told == ("a blocking check did not pass: broken: every_row_is_read",)


def test_a_cause_that_the_sentence_repeats_is_not_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        try:
            raise OSError("no answer")
        except OSError as error:
            raise ValueError(f"the service at port 9: {error}. Start it.") from error

    assert run_with(fail)[1] == ("the service at port 9: no answer. Start it.",)
    monkeypatch.setenv("EMBED_PIPELINE_DEBUG", "1")
    assert "in fail" in run_with(fail)[1][0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, dg.DagsterExecutionInterruptedError])
def test_an_interrupted_run_is_canceled_and_raises(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    instance, found = run_with(fail)
    (run,) = instance.get_runs()
    assert (found, run.status.value) == (("interrupted",), "CANCELED")
    kinds = [record.event_log_entry.dagster_event.event_type_value for record in all_events(instance, run)]
    assert "PIPELINE_FAILURE" not in kinds and kinds.count("STEP_START") == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
def test_a_step_hears_ctrl_c_itself_while_it_waits_for_a_child(tmp_path: Path) -> None:
    """A wait in native code ends only where the thread that waits is given the signal."""
    blocked: list[set[int]] = []
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run_with(lambda: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, [])), instance)
    assert [signal.SIGINT in masked for masked in blocked] == [False]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def all_events(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list:
    return [r for r in instance.get_records_for_run(run.run_id).records if r.event_log_entry.dagster_event]
