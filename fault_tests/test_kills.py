"""SIGKILL at random moments of a whole run, and of the service: what follows ends as if nothing had happened."""

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from embed_pipeline.reporting.database import read_history
from embed_pipeline_tests.small_project import is_training
from fault_tests.commands import ENVIRONMENT, Command, call
from fault_tests.conftest import Figure
from fault_tests.project import STORE, State, copy_of, files_of, sound_store, state_of, write_whole_project

KILLS = int(os.environ.get("KILLS", "200"))
SEED = int(os.environ.get("SEED", "1"))
KILLS_OF_ONE_PROJECT = 20
"""A project is killed so often on its way, and then run to its end and compared: most of a run is not repeated."""
BEGUN = (0, 1, 1, 2, 2, 2, 3, 3, 4, 5)
"""How many jobs a run may begin before it is killed in the last of them, drawn alike: a project of some thirty jobs is
killed in all its parts, however quick the machine is."""


_BEGINS = re.compile("[a-z]+_[a-z_]+ ")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_project(tmp_path_factory.mktemp("kills") / "template")


@pytest.fixture(scope="module")
def undisturbed(template: Path) -> tuple[State, Counter[str], Mapping[str, float]]:
    """What an undisturbed run leaves, what lies there after `gc`, and the seconds of the longest job of each kind."""
    project = copy_of(template, template.with_name("project"))
    code, said = call(project, "run", environment=STORE, seconds=900)
    assert code == 0, said
    found, seconds, job = state_of(project), {"begin": 1.5}, "begin"
    for line in said.splitlines():
        job = line.split()[0] if _BEGINS.match(line) else job
        if done := re.match(r" *done in ([\d.]+) s", line):
            seconds[job] = max(seconds.get(job, 0.0), float(done[1]))
    assert call(project, "gc")[0] == 0
    return found, files_of(project), seconds


def test_killed_anywhere_a_project_ends_with_the_digests_and_rows_of_an_undisturbed_one(
    template: Path, undisturbed: tuple[State, Counter[str], Mapping[str, float]], figure: Figure
) -> None:
    expected, files, seconds = undisturbed
    figure("kinds of jobs in the whole graph", len(seconds) - 1)
    figure("seed", SEED)
    done, projects, at, started = 0, 0, Counter(), time.monotonic()
    chance = random.Random(SEED)
    while done < KILLS:
        project = copy_of(template, template.with_name("project"))
        projects += 1
        for _ in range(min(KILLS_OF_ONE_PROJECT, KILLS - done)):
            command, begun = Command(project, "run", environment=STORE), chance.choice(BEGUN)
            while len(_jobs(command.said())) < begun and command.is_running():
                time.sleep(0.01)
            time.sleep(chance.uniform(0, seconds[_doing(command.said())]))
            if not command.is_running():
                assert command.wait() == 0, command.said()
                break
            at[_doing(command.said())] += 1
            command.kill()
            command.output.unlink()
            done += 1
            if (project / ".embed_pipeline" / "artifacts").is_dir():
                sound_store(project)
        print(
            f"seed {SEED}, project {projects}: {done} kills, {time.monotonic() - started:.0f} s, {dict(at)}", flush=True
        )
        _compare(project, expected, files)
    figure("kills, each followed by a run", done)
    figure("projects run to their end and compared", projects)
    figure("killed at", ", ".join(f"{name} {count}" for name, count in sorted(at.items())))
    figure("seconds for each kill", f"{(time.monotonic() - started) / done:.1f}")


def _compare(project: Path, expected: State, files: Counter[str]) -> None:
    code, said = call(project, "run", environment=STORE, seconds=900)
    assert code == 0 and "Traceback" not in said, said
    found = state_of(project)
    assert found.objects == expected.objects
    assert found.rows == expected.rows and found.newest == expected.newest
    code, said = call(project, "gc")
    assert code == 0, said
    assert files_of(project) == files
    code, said = call(project, "run", environment=STORE)
    assert code == 0 and "Everything is fresh" in said, said


def _doing(said: str) -> str:
    """The job that was under way, as the command said it last; `begin` before the first."""
    return ["begin", *_jobs(said)][-1]


def _jobs(said: str) -> list[str]:
    """The jobs that a run has begun, in order."""
    return [line.split()[0] for line in said.splitlines() if _BEGINS.match(line)]


def test_a_service_killed_while_it_answers_answers_the_same_when_it_is_started_again(
    template: Path, undisturbed: tuple[State, Counter[str], Mapping[str, float]], figure: Figure
) -> None:
    expected, _, _ = undisturbed
    project, chance, answers, kills = template.with_name("project"), random.Random(SEED), [], max(2, KILLS // 20)
    assert call(project, "run", environment=STORE, seconds=900)[0] == 0  # wherever the test before it left the project
    for _ in range(kills + 1):
        service = Command(project, "serve", "small/tuned", "--port", "0")
        service.wait_until_said("serving ")
        address = service.said().partition(" on ")[2].split()[0]
        answers.append(_search(address, "我肝上有油，能买吗"))
        for number in range(chance.randrange(30)):
            _search(address, f"问题{number}")
        service.kill()
    assert all(answer == answers[0] for answer in answers) and answers[0]
    code, said = call(project, "run", environment=STORE)
    assert code == 0 and "Everything is fresh" in said, said
    assert state_of(project) == expected
    figure("kills of a service under load, each followed by a start", kills)


def _search(address: str, text: str) -> object:
    request = urllib.request.Request(
        f"{address}/search", json.dumps({"query": text}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def test_a_run_killed_as_its_own_process_says_what_was_interrupted(
    template: Path, undisturbed: tuple[State, Counter[str], Mapping[str, float]]
) -> None:
    """The same once with a fresh interpreter instead of a forked one."""
    project = copy_of(template, template.with_name("project"))
    environment = {**os.environ, **ENVIRONMENT, **STORE}
    process = subprocess.Popen(
        [sys.executable, "-m", "embed_pipeline", "run"], cwd=project, env=environment, start_new_session=True
    )
    while not is_training(project / ".embed_pipeline"):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, 9)
    process.wait()
    code, said = call(project, "status")
    assert code == 0 and "interrupted: begun" in said, said
    _compare(project, undisturbed[0], undisturbed[1])
    assert len({row.evaluated_at for row in read_history(project / ".embed_pipeline" / "metrics.duckdb")}) == 1
