"""Signals to a small process: what a clean end gets, and what is ended by force."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

CODE = """
import hashlib, signal, subprocess, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests themselves run under nohup
from embed_pipeline.interruption import interruptible
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
with interruptible(lambda line: print(line, flush=True), grace_seconds=float(sys.argv[2])) as interruption:
    with interruption.last_act(lambda: print("act", flush=True)):
        try:
            print(child.pid, flush=True)
            if sys.argv[1] == "native":
                hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)  # no signal is heard inside
            time.sleep(300)
        except KeyboardInterrupt:
            child.kill()
            sys.exit(interruption.exit_code)
"""


def start(kind: str, grace_seconds: float) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, kind, str(grace_seconds)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    child = int(process.stdout.readline())
    looked_at, wanted = psutil.Process(process.pid), {"sleep": 0.0, "native": 0.3}[kind]
    before = looked_at.cpu_times().user
    while looked_at.cpu_times().user - before < wanted:  # inside native code, for nothing else takes so long
        time.sleep(0.05)
    return process, child


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_a_keyboard_interrupt_and_the_exit_code_tells_which(number: signal.Signals, code: int) -> None:
    process, _ = start("sleep", 20)
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert said.startswith("Stopping") and "act" not in said


def test_native_code_that_hears_no_signal_is_ended_after_the_grace_with_its_children() -> None:
    process, child = start("native", 1.0)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and not is_running(child)
    assert said.splitlines()[1] == "act" and "Stopped by force" in said.splitlines()[2]


def test_a_second_signal_does_not_wait_for_the_grace() -> None:
    process, child = start("native", 60)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.monotonic() - began < 20
    assert process.returncode == 143 and not is_running(child)


def test_a_signal_that_meets_the_end_of_an_object_ends_the_command_all_the_same() -> None:
    code = """
import os, signal, sys, time
from embed_pipeline.interruption import interruptible
class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
with interruptible(lambda line: print(line, flush=True), grace_seconds=20) as interruption:
    try:
        Ends()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(interruption.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.count("Stopping") == 1
