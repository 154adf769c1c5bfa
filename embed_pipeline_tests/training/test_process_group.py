"""Starting and ending processes: nothing outlives an interrupt, a failure has a reason."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from embed_pipeline.interruption import end_process_tree
from embed_pipeline.training.finetune import abandoned_work, run_process_group, work_prefix

SLEEP = "import time; time.sleep(300)"
# A child in a session of its own, as torchrun starts its workers.
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True).wait()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


def test_a_command_that_fails_says_with_which_status() -> None:
    with pytest.raises(RuntimeError, match="ended with status 3, expected 0"):
        run_process_group([sys.executable, "-c", "raise SystemExit(3)"], environment={})


def test_a_command_that_fails_says_its_error_which_is_printed_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    page = "print('torch.distributed.elastic.multiprocessing.errors.ChildFailedError: a page', file=sys.stderr)"
    code = f"import sys; print('[rank0]: ValueError: nothing to train', file=sys.stderr); {page}; raise SystemExit(1)"
    with pytest.raises(RuntimeError, match=r"expected 0\. It said: ValueError: nothing to train\. Command:"):
        run_process_group([sys.executable, "-c", code], environment={})
    assert "[rank0]: ValueError: nothing to train" in capfd.readouterr().err


def test_a_command_that_fails_without_an_error_says_its_last_lines() -> None:
    code = "import sys; [print(number, file=sys.stderr) for number in range(300)]; raise SystemExit(1)"
    with pytest.raises(RuntimeError, match=r"It said: 297 \| 298 \| 299\. Command:"):
        run_process_group([sys.executable, "-c", code], environment={})


def test_a_command_that_is_killed_says_by_which_signal() -> None:
    with pytest.raises(RuntimeError, match="ended with signal SIGKILL"):
        run_process_group([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], environment={})


def test_ending_a_tree_reaches_descendants_in_other_sessions() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT], start_new_session=True)
    tree = _wait_for_children(process.pid)
    end_process_tree(process.pid, grace_seconds=5)
    process.wait()
    assert not any(_is_running(descendant) for descendant in tree)


def test_a_process_that_ignores_the_request_is_killed_after_the_grace() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
    time.sleep(1)
    end_process_tree(process.pid, grace_seconds=0.5)
    assert not psutil.pid_exists(process.pid)


def test_an_interrupt_ends_the_tree_before_it_goes_on() -> None:
    code = (
        "from embed_pipeline.training.finetune import run_process_group; import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs of a shell inherit it ignored
        f"run_process_group([sys.executable, '-c', {PARENT!r}], environment={{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    tree = _wait_for_children(process.pid, count=2)
    process.send_signal(2)
    assert process.wait(timeout=20) != 0
    assert not any(_is_running(descendant) for descendant in tree)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own word for it")
def test_a_command_ends_soon_after_the_process_that_ran_it_was_killed() -> None:
    code = (
        "from embed_pipeline.training.finetune import run_process_group\n"
        f"run_process_group([{sys.executable!r}, '-c', {SLEEP!r}], environment={{}})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    tree = _wait_for_children(process.pid)
    while tree[0].cmdline()[-1:] != [SLEEP]:  # until then it is a copy of its parent, which did not yet say so
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert psutil.wait_procs(tree, timeout=10)[1] == []


def _wait_for_children(pid: int, count: int = 1) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while len(children := psutil.Process(pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline, f"waited for {count} child processes"
        time.sleep(0.1)
    return children


def _is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_only_folders_of_what_nobody_builds_are_abandoned(tmp_path: Path) -> None:
    built, abandoned = "b" * 64, "a" * 64
    for fingerprint in (built, abandoned):
        (tmp_path / f"{work_prefix(fingerprint)}abc").mkdir()
    found = abandoned_work(tmp_path, lambda fingerprint: fingerprint == built)
    assert [path.name for path in found] == [f"training-{abandoned}-abc"]


def test_the_reason_that_a_command_wrote_is_the_message(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'reason')!r}, 'w').write('too hot'); raise SystemExit(1)"
    with pytest.raises(RuntimeError, match=r"^too hot$"):
        run_process_group([sys.executable, "-c", code], environment={}, reason=tmp_path / "reason")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        run_process_group([sys.executable, "-c", "raise SystemExit(1)"], environment={}, reason=tmp_path / "none")
