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


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_project(tmp_path_factory.mktemp("kills") / "template")


@pytest.fixture(scope="module")
def undisturbed(template: Path) -> tuple[State, Counter[str], float]:
    """What a run that nobody disturbs leaves, what lies there after `gc`, and how long the run takes."""
    project = copy_of(template, template.with_name("project"))
    started = time.monotonic()
    code, said = call(project, "run", environment=STORE, seconds=900)
    took = time.monotonic() - started
    assert code == 0, said
    found = state_of(project)
    assert call(project, "gc")[0] == 0
    return found, files_of(project), took


def test_killed_anywhere_a_project_ends_with_the_digests_and_rows_of_an_undisturbed_one(
    template: Path, undisturbed: tuple[State, Counter[str], float], figure: Figure
) -> None:
    expected, files, took = undisturbed
    figure("seconds of an undisturbed run of the whole graph", f"{took:.0f}")
    figure("seed", SEED)
    done, projects, at, started = 0, 0, Counter(), time.monotonic()
    chance = random.Random(SEED)
    while done < KILLS:
        project = copy_of(template, template.with_name("project"))
        projects += 1
        for _ in range(min(KILLS_OF_ONE_PROJECT, KILLS - done)):
            command = Command(project, "run", environment=STORE)
            # What was begun is done anew after a kill: on the average each comes a step further than the last.
            time.sleep(chance.uniform(0.2, 2.5 * took / KILLS_OF_ONE_PROJECT))
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
    begun = [line.split()[0] for line in said.splitlines() if re.match("[a-z]+_[a-z_]+ ", line)]
    return begun[-1] if begun else "begin"


def test_a_service_killed_while_it_answers_answers_the_same_when_it_is_started_again(
    template: Path, undisturbed: tuple[State, Counter[str], float], figure: Figure
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
    template: Path, undisturbed: tuple[State, Counter[str], float]
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
