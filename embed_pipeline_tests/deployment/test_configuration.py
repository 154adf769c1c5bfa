"""What deploy/ and the Dockerfile ship, read without starting it: options, addresses, variables, no secrets."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from embed_pipeline.assembly.alerts import COMMAND_VARIABLE, URL_VARIABLE
from embed_pipeline.commands.serve import API_KEY_VARIABLE
from embed_pipeline.project.project import ENVIRONMENT
from embed_pipeline_tests.deployment.postgres_server import is_required
from embed_pipeline_tests.deployment.services import (
    CONFIGURATION,
    DEPLOY,
    PROGRAMS,
    UNITS,
    Unit,
    copied_sources,
    read_environment,
    read_stages,
)
from embed_pipeline_tests.documented_commands import parse_command

MOST_EXPOSURE = 30
"""Tenths of systemd's scale: 0 is a service without a system, 100 is root without bounds."""
SHARED, TEAM = (read_environment(DEPLOY / name) for name in ("environment.example", "team.environment.example"))
LOCATIONS = {
    entry["grpc_server"]["location_name"]: entry["grpc_server"]
    for entry in yaml.safe_load((DEPLOY / "workspace.yaml").read_text(encoding="utf-8"))["load_from"]
}


def _is_secret(variable: str) -> bool:
    return variable.endswith(("PASSWORD", "_KEY", "_TOKEN", "_URL"))


def _unknown_options(words: list[str]) -> list[str]:
    """The options of a command that its program does not know; its subcommands must exist."""
    program, own = Path(words[0]).name, 4 if words[1] == "-m" else 1
    options = [word for word in words[own:] if re.fullmatch(r"--?[a-z][a-z-]*", word)]
    known = ("run", "code-server", "start", "serve", "api", "grpc-health-check")
    subcommands = [*words[1:own], *(word for word in words[own:] if word in known)]
    run = [str(Path(sys.executable).parent / program), *subcommands, "--help"]
    text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert options
    return [option for option in options if not re.search(rf"^  .*?{option}\b", text, flags=re.M)]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_every_option_of_a_unit_is_one_its_program_knows(path: Path) -> None:
    words = Unit(path).command()
    assert words[0] == PROGRAMS + Path(words[0]).name and _unknown_options(words) == []


def _words(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    """The last value of an instruction in JSON's form, HEALTHCHECK's options left out."""
    (*_, found) = [arguments for name, arguments in stage if name == instruction]
    return json.loads(found[found.index("[") :])


def test_an_image_starts_a_command_that_exists_and_looks_at_what_it_started() -> None:
    stages = read_stages()
    serve, check = _words(stages["serve"], "ENTRYPOINT"), _words(stages["serve"], "HEALTHCHECK")
    parse_command([*serve[1:], "faq_en/e5"], "Dockerfile")
    port = serve[serve.index("--port") + 1]
    assert f"http://127.0.0.1:{port}/healthz" in check[-1] and ("EXPOSE", port) in stages["serve"]
    compile(check[-1], "HEALTHCHECK", "exec")
    start, check = _words(stages["dagster"], "CMD"), _words(stages["dagster"], "HEALTHCHECK")
    unit = Unit(DEPLOY / "systemd" / "embed-pipeline-code@.service").command(TEAM)
    assert start == [Path(unit[0]).name, *unit[1:]]
    assert _unknown_options(check) == [] and check[check.index("--port") + 1] == TEAM["EMBED_PIPELINE_CODE_PORT"]
    assert not any(name == "EXPOSE" for name, _ in stages["dagster"])


def test_an_image_is_built_of_what_is_shipped_and_pinned_and_runs_without_rights() -> None:
    stages, root = read_stages(), DEPLOY.parent
    ignored = (root / ".dockerignore").read_text(encoding="utf-8").split("\n")
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored and not [name for name in allowed if not (root / name).exists()]
    sources = {source for stage in stages.values() for source in copied_sources(stage)}
    assert sources == set(allowed), "what is let through to the builder is what is copied"
    (install,) = [arguments for name, arguments in stages["build"] if name == "RUN" and "pip install" in arguments]
    extras = re.search(r"--constraint constraints.txt '\.\[([a-z0-9,-]+)\]'", install)
    assert extras is not None
    known = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(known)
    for image in ("serve", "dagster"):
        last = [name for name, _ in stages[image]]
        assert ("USER", "10001") in stages[image] and last.index("USER") == len(last) - 1 - last[::-1].index("USER")
        assert not any("pip install" in arguments for name, arguments in stages[image] if name == "RUN")
        written = " ".join(arguments for name, arguments in stages[image] if name in ("ENV", "ARG"))
        assert not [name for name in re.findall(r"(\w+)=", written) if _is_secret(name)]


def _analyze(path: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `systemd-analyze` says of a unit; of a template, of its instance."""
    program = shutil.which("systemd-analyze")
    if program is None:
        reason = "systemd-analyze: expected it in PATH, found none. Install it: apt-get install systemd"
        (pytest.fail if is_required(os.environ) else pytest.skip)(reason)
    unit = folder / path.name.replace("@", "@underwriting")
    # The programs lie elsewhere on this machine, and there is no such user; both are checked by starting the units.
    text = path.read_text(encoding="utf-8").replace(PROGRAMS, f"{Path(sys.executable).parent}/")
    unit.write_text(text, encoding="utf-8")
    return subprocess.run([program, *words, str(unit)], capture_output=True, text=True)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(path: Path, tmp_path: Path) -> None:
    done = _analyze(path, tmp_path, "verify", "--man=no")
    assert [line for line in done.stderr.splitlines() if path.name.split("@")[0] in line] == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_exposed_by_no_more_than_it_needs(path: Path, tmp_path: Path) -> None:
    done = _analyze(path, tmp_path, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}")
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= MOST_EXPOSURE / 10 and done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_may_do_what_its_program_does(path: Path) -> None:
    unit = path.read_text(encoding="utf-8")
    settings = dict(line.split("=", 1) for line in unit.splitlines() if re.match("[A-Z][A-Za-z]+=", line))
    # PostgreSQL over a socket or TCP, gRPC, and torch, which looks for the machine's addresses.
    families = {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}
    assert set(settings["RestrictAddressFamilies"].split()) == families
    assert settings["StateDirectory"] == "embed-pipeline" and settings["ProtectSystem"] == "strict"
    # torch compiles, and the three services are one user: what one leaves in shared memory may be another's.
    assert not {"MemoryDenyWriteExecute", "RemoveIPC", "PrivateNetwork", "ProcSubset"} & set(settings)
    if "@" in path.name:
        # Hosted models and a GPU: its runs are processes of this unit.
        assert "IPAddressDeny" not in settings and "PrivateDevices" not in settings
        assert "DeviceAllow=char-nvidia rw" in unit and settings["DevicePolicy"] == "closed"


def test_every_server_listens_on_this_machine_alone() -> None:
    listening = [words for words in (Unit(path).command() for path in UNITS) if "-p" in words]
    assert len(listening) == 2
    assert {words[words.index("-h") + 1] for words in listening} == {"127.0.0.1"}
    assert {location["host"] for location in LOCATIONS.values()} == {"127.0.0.1"}


def test_the_first_location_is_the_team_of_the_example() -> None:
    assert str(LOCATIONS[TEAM["EMBED_PIPELINE_TEAM"]]["port"]) == TEAM["EMBED_PIPELINE_CODE_PORT"]
    assert len({location["port"] for location in LOCATIONS.values()}) == len(LOCATIONS) >= 2


def test_every_variable_that_is_read_is_in_an_example() -> None:
    instance = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"env: (\w+)", instance)) <= set(SHARED)
    for path in UNITS:
        known = {**SHARED, **TEAM} if "@" in path.name else SHARED
        assert set(re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8"))) <= set(known)


def test_a_team_sets_no_variable_that_nothing_reads() -> None:
    offered = set(re.findall(r"^(?:# )?([A-Z_]+)=", (DEPLOY / "team.environment.example").read_text(), flags=re.M))
    known = {*ENVIRONMENT.values(), COMMAND_VARIABLE, URL_VARIABLE, "EMBED_PIPELINE_CODE_PORT", "OPENAI_API_KEY"}
    known |= {"EMBED_PIPELINE_SERVED", "EMBED_PIPELINE_SERVED_PORT", API_KEY_VARIABLE}
    assert offered <= known


def test_no_secret_is_shipped() -> None:
    for path in DEPLOY.glob("*environment.example"):
        lines = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", path.read_text(encoding="utf-8"), flags=re.M)
        assert [name for name, value in lines if _is_secret(name) and value] == []
    database = yaml.safe_load((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))["storage"]["postgres"]
    assert set(database["postgres_db"]["password"]) == {"env"}


def test_every_unit_reads_the_shared_variables_and_only_a_code_location_its_teams() -> None:
    for path in UNITS:
        files = re.findall(r"^EnvironmentFile=(.+)$", path.read_text(encoding="utf-8"), flags=re.M)
        of_the_team = [f"{CONFIGURATION}/%i.environment"] if "@" in path.name else []
        assert files == [f"{CONFIGURATION}/environment", *of_the_team]
