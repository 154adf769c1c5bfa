"""Bad input of every kind ends with its exit code and one message, and leaves nothing half-written."""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fault_tests.bad_input import CASES, Case
from fault_tests.commands import call
from fault_tests.conftest import Figure
from fault_tests.project import copy_of, write_short_project

ALL = [pytest.param(case, id=f"{part}-{case.name}") for part, cases in CASES.items() for case in cases]
REMEDY = re.compile(
    r"\b(Add|Check|Choose|Convert|[Cc]opy|Correct|Fill|Give|Keep|Look at|Make|Materialise|Move|Name|Nearest|Open|Put|"
    r"Quote|Remove|Rename|Run|Save|Set|Shorten|Train|Unpack|Unset|Write|must be one of)\b|`embed-pipeline \w+`"
)
"""How an answer says what to do."""


@dataclass(frozen=True)
class Templates:
    """A project in which nothing ran, and one in which bm25 and base did."""

    new: Path
    ran: Path

    def answer(self, case: Case) -> tuple[int, str]:
        """Exit code and words of a case's command about a copy of its own; paths begin at the project's folder."""
        root = copy_of(self.ran if case.ran else self.new, self.new.with_name("project"))
        case.prepare(root)
        before = _users_files(root)
        code, said = call(root, *case.command, environment=case.environment, seconds=60)
        assert _users_files(root) == before, "a file of the user's was changed or added"
        home = root / ".embed_pipeline"
        if home.is_dir():
            assert not [*home.glob("training-*"), *home.glob("artifacts/staging/*")], "something half-written is left"
        for place in (root, self.new):
            said = said.replace(f"{place}/", "").replace(str(place), ".")
        return code, said


def write_templates(folder: Path) -> Templates:
    new = write_short_project(folder / "new", "bm25", "base")
    ran = write_short_project(folder / "ran", "bm25", "base")
    code, said = call(ran, "run")
    assert code == 0, said
    return Templates(new, ran)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return write_templates(tmp_path_factory.mktemp("bad_input"))


@pytest.mark.parametrize("case", ALL)
def test_bad_input_is_one_message_and_leaves_nothing_half_written(case: Case, templates: Templates) -> None:
    code, said = templates.answer(case)
    assert code == case.code, said
    assert "Traceback" not in said and "please report it" not in said, said
    assert [word for word in case.words if word not in said] == [], said
    # What click says of an argument names the argument, and the command's help says the rest.
    assert case.code != 1 or REMEDY.search(said), f"no remedy in {said}"


def test_the_kinds_are_counted(figure: Figure) -> None:
    counts = {part: len(cases) for part, cases in CASES.items()}
    figure("kinds of bad input, each with its code, message and nothing half-written", sum(counts.values()))
    assert len({case.name for cases in CASES.values() for case in cases}) == sum(counts.values()) >= 60


def shortened(said: str) -> str:
    """What matters of an answer: the error and its remedy, without what is around it; empty where there is none."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if re.search(r"failed|Error:|warning:|damaged|is set aside|^Correct|^mv ", line)]
    told = [line for line in told if not re.match(r"\d+ runs, |error: |.* is missing: waits for", line)]
    return " ".join(dict.fromkeys(told))


def _users_files(root: Path) -> Mapping[str, str]:
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".embed_pipeline"]
        for name in (*folders, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else str(stat.S_IFMT(mode))
            found[str(path.relative_to(root))] = content
    return found
