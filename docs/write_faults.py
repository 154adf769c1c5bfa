"""Writes the table of bad input in docs/faults.md, as it is answered: `PYTHONPATH=. python docs/write_faults.py`.

What stands around the table is written by hand. It takes about three minutes.
"""

import tempfile
from pathlib import Path

import fault_tests.conftest  # noqa: F401  the environment that commands are started in
from fault_tests.bad_input import CASES
from fault_tests.test_bad_input import shortened, write_templates

PAGE = Path(__file__).parent / "faults.md"
BEGIN, END = "<!-- cases: written by docs/write_faults.py -->", "<!-- end of cases -->"
_LONGEST = 400
_NOTHING = "Nothing: it goes on, and what was kept there is encoded again"


def format_cases(folder: Path) -> str:
    """The cases by part, with the command, the exit code and the answer."""
    templates, lines = write_templates(folder), []
    for part, cases in CASES.items():
        lines += ["", f"### {part}", "", "| what is wrong | command | exit code | what is said |", "|---|---|---|---|"]
        for case in cases:
            code, said = templates.answer(case)
            lines.append(f"| {case.name} | `{_command(case)}` | {code} | {_cell(shortened(said) or _NOTHING)} |")
    return "\n".join([*lines, ""])


def _command(case) -> str:
    given = [f"{name}={value if 'KEY' not in name else '…'}" for name, value in case.environment.items()]
    return " ".join([*given, "embed-pipeline", *case.command])


def _cell(text: str) -> str:
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as found:
        table = format_cases(Path(found))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
