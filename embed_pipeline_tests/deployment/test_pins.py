"""The pinned versions install on the oldest Python of each line that is promised: one that a distribution ships."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def test_no_pin_needs_a_later_python_than_a_distribution_has() -> None:
    """Debian 12 has 3.11.2, and a pin that asks for 3.11.5 leaves its users without an installation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = [f"3.{minor}.0" for minor in range(11, 15) if f"3.{minor}.0" in SpecifierSet(project["requires-python"])]
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M)
    asked = {}
    for name in pins:
        try:
            asked[name] = metadata(name)["Requires-Python"] or ""
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
    assert len(asked) > len(pins) // 2 and oldest == ["3.11.0", "3.12.0"]
    refused = {name: of for name, of in asked.items() if not all(one in SpecifierSet(of) for one in oldest)}
    assert not refused, f"pin earlier versions of these in constraints.txt: {refused}"
