"""The shipped units and images read as a service manager and a builder would: what each starts, and with what.

Does not belong here: what the services must do (test_services).
"""

import configparser
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = tuple(sorted((DEPLOY / "systemd").glob("*.service")))
DOCKERFILE = DEPLOY.parent / "Dockerfile"
PROGRAMS = "/srv/embed-pipeline/.venv/bin/"
CONFIGURATION = "/etc/embed-pipeline"


@dataclass(frozen=True)
class Unit:
    """One unit file; a template's `%i` is the team."""

    path: Path
    team: str = "underwriting"

    @property
    def service(self) -> Mapping[str, str]:
        """The last value of every setting of [Service]."""
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment]  # systemd's names have capitals
        parser.read_string(self.path.read_text(encoding="utf-8"))
        return dict(parser["Service"])

    def command(self, environment: Mapping[str, str] | None = None) -> list[str]:
        """The words of ExecStart, with `%i` and, where an environment is given, its variables replaced."""
        line = self.service["ExecStart"].replace("%i", self.team)
        return shlex.split(line if environment is None else Template(line).substitute(environment))


def read_stages() -> dict[str, list[tuple[str, str]]]:
    """Every stage of the Dockerfile: its instructions and their arguments, behind those of the stage it begins from."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M)
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            stages[name] = [*stages.get(base, [])]
        if name and instruction:
            stages[name].append((instruction, arguments))
    return stages


def copied_sources(stage: list[tuple[str, str]]) -> list[str]:
    """What a stage copies out of the repository, as paths below its root."""
    copies = [arguments.split() for instruction, arguments in stage if instruction == "COPY"]
    return [source for *sources, _ in copies for source in sources if not sources[0].startswith("--from=")]


def read_environment(path: Path) -> dict[str, str]:
    """The variables of an environment file, those in comments left out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}
