"""Laws of the usage log: sums over all runs, a limit that holds, nothing lost to a kill."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from embed_pipeline.encoding.usage import AnsweredRequest, CallLimitError, SpendLimitError, UsageLog

ROOT = Path(__file__).parents[2]


def answered(*, cost_usd: float = 0.0, reservation: str | None = None, tokens: int = 10) -> AnsweredRequest:
    return AnsweredRequest(
        reservation=reservation, role="query", texts=2, bytes=30, tokens=tokens, seconds=0.25, cost_usd=cost_usd
    )


def test_the_sums_cover_every_run(tmp_path: Path) -> None:
    path = tmp_path / "usage" / "encoder.jsonl"
    assert (UsageLog(path).requests, UsageLog(path).spent_usd) == ((), 0.0)
    for _ in range(3):
        log = UsageLog(path)
        log.settle(answered(cost_usd=0.25, reservation=log.reserve(0.5, limit_usd=2.0)))
    log = UsageLog(path)
    assert (len(log.requests), log.spent_usd, log.reserved_usd) == (3, 0.75, 0.0)
    assert log.requests[0].at.endswith("+00:00")


def test_an_open_log_sees_what_another_wrote_meanwhile(tmp_path: Path) -> None:
    one, other = UsageLog(tmp_path / "a.jsonl"), UsageLog(tmp_path / "a.jsonl")
    assert one.spent_usd == 0
    other.settle(answered(cost_usd=0.5))
    assert one.spent_usd == 0.5
    one.settle(answered(cost_usd=0.25))
    assert one.spent_usd == other.spent_usd == 0.75


def test_the_limit_may_be_reached_but_not_passed(tmp_path: Path) -> None:
    log = UsageLog(tmp_path / "a.jsonl")
    log.settle(answered(cost_usd=0.25, reservation=log.reserve(0.5, limit_usd=1.0)))
    log.reserve(0.75, limit_usd=1.0)
    with pytest.raises(SpendLimitError, match=r"spend_limit_usd 1; 0.25 is spent, 0.75 set aside .* could cost 1e-06"):
        log.reserve(0.000001, limit_usd=1.0)
    assert log.reserve(5.0, limit_usd=None)


def test_the_call_limit_counts_what_is_answered_and_what_is_without_an_answer(tmp_path: Path) -> None:
    log = UsageLog(tmp_path / "a.jsonl")
    log.settle(answered(reservation=log.reserve(0.0, None, call_limit=3)))
    log.release(log.reserve(0.0, None, call_limit=2))
    log.reserve(0.0, None, call_limit=2)
    assert (len(log.requests), log.unanswered) == (1, 1)
    with pytest.raises(CallLimitError, match=r"call_limit 2; 1 calls are answered and 1 without an answer"):
        log.reserve(0.0, None, call_limit=2)
    assert log.reserve(0.0, None, call_limit=3)


def test_threads_that_share_a_log_count_every_line_once(tmp_path: Path) -> None:
    log = UsageLog(tmp_path / "a.jsonl")

    def work() -> None:
        for _ in range(25):
            log.settle(answered(cost_usd=0.125, reservation=log.reserve(0.5, limit_usd=None)))
            assert log.spent_usd > 0

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(log.requests), log.spent_usd, log.unanswered) == (200, 25.0, 0)
    assert UsageLog(log.path).requests == log.requests


def test_a_refused_request_gives_its_reservation_back(tmp_path: Path) -> None:
    log = UsageLog(tmp_path / "a.jsonl")
    log.release(log.reserve(1.0, limit_usd=1.0))
    assert log.reserved_usd == 0
    assert log.reserve(1.0, limit_usd=1.0)


@given(costs=st.lists(st.tuples(st.floats(1e-9, 1e3), st.floats(0, 1)), max_size=30), limit=st.floats(1e-9, 1e3))
@settings(max_examples=60, deadline=None)
def test_no_sequence_of_costs_sums_above_the_limit(
    costs: list[tuple[float, float]], limit: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = UsageLog(tmp_path_factory.mktemp("usage") / "a.jsonl")
    for most, share in costs:
        try:
            reservation = log.reserve(most, limit)
        except SpendLimitError:
            continue
        log.settle(answered(cost_usd=most * share, reservation=reservation))
    assert log.spent_usd <= limit


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_by_a_kill_is_ignored_and_swallows_nothing(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    log = UsageLog(path)
    log.settle(answered(cost_usd=0.25))
    reservation = log.reserve(0.5, limit_usd=None)
    log.settle(answered(cost_usd=0.375, reservation=reservation))
    path.write_bytes(path.read_bytes()[:-cut])

    torn = UsageLog(path)
    # The answer is lost, so the most that its request can have cost stays counted.
    assert (torn.spent_usd, torn.reserved_usd) == (0.25, 0.5)
    torn.settle(answered(cost_usd=0.125))
    only_its_end_was_missing = cut == 1
    assert UsageLog(path).spent_usd == torn.spent_usd == (0.75 if only_its_end_was_missing else 0.375)


def test_a_line_of_another_version_is_an_error_and_not_zero(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    UsageLog(path).settle(answered(cost_usd=0.25))
    path.write_text(path.read_text().replace("cost_usd", "cost_eur"))
    with pytest.raises(ValueError, match=r"a\.jsonl: a line that this version does not know"):
        _ = UsageLog(path).spent_usd


def test_a_reservation_waits_for_the_lock_and_counts_what_was_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    outcomes: list[object] = []

    def reserve() -> None:
        try:
            outcomes.append(UsageLog(path).reserve(0.6, limit_usd=1.0))
        except SpendLimitError as error:
            outcomes.append(error)

    with FileLock(tmp_path / "a.jsonl.lock"):
        waiting = threading.Thread(target=reserve)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not outcomes
        path.write_text(answered(cost_usd=0.6).model_dump_json() + "\n")
    waiting.join(10)
    assert isinstance(outcomes[0], SpendLimitError)


SPENDER = """
import os, signal, sys
from pathlib import Path
from embed_pipeline.encoding.usage import AnsweredRequest, SpendLimitError, UsageLog

log = UsageLog(Path(sys.argv[1]))
for number in range(40):
    try:
        reservation = log.reserve(0.02, limit_usd=1.0)
    except SpendLimitError:
        break
    if sys.argv[2] == "killed" and number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    log.settle(AnsweredRequest(
        reservation=reservation, role="query", texts=1, bytes=1, tokens=1, seconds=0, cost_usd=0.02))
"""


def test_processes_together_stay_below_the_limit_and_a_killed_one_keeps_its_reservation(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-c", SPENDER, str(path)]
    killed = subprocess.run([*command, "killed"], cwd=ROOT, timeout=60)
    processes = [subprocess.Popen([*command, "lives"], cwd=ROOT) for _ in range(2)]
    codes = [killed.returncode, *(process.wait(timeout=60) for process in processes)]
    log = UsageLog(path)
    assert codes == [-9, 0, 0]
    # 50 requests fit; one was never answered and could have been charged.
    assert len(log.requests) == 49
    assert (log.reserved_usd, log.spent_usd) == (0.02, pytest.approx(0.98))
