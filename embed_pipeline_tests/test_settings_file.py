"""YAML that somebody else wrote costs no more than it weighs, and its errors fit on a screen."""

import time
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embed_pipeline.dataset.settings import read_dataset_settings
from embed_pipeline.project.recipes import read_recipe
from embed_pipeline.settings_file import MOST_BYTES, clip, join_problems, parse_yaml, read_mapping, shown

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
HOSTILE = {
    "aliases": BOMB + "description: *a9\n",
    "merged aliases": BOMB.replace("[", "{p: ").replace("]", "}").replace(", ", ", q: ", 1),
    "20,000 brackets": "description: " + "[" * 20_000,
    "20,000 braces": "description: " + "{a: " * 20_000,
    "20,000 indents": "".join(" " * n + "a:\n" for n in range(1500)),
    "nested aliases": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 80)),
    "itself": "description: &a [1, *a]\n",
    "a long name": "description: *" + "x" * 400_000,
    "a long text where a number belongs": "split: " + "x" * 400_000,
    "many unknown fields": "".join(f"field_{n}: 1\n" for n in range(5000)),
    "a number of many digits": "description: " + "9" * 10_000,
    "a date that is none": "description: 2026-13-45",
    "an object": "description: !!python/object/apply:os.system ['true']",
    "ESC": "description: \x1b[2J",
    "a list": "- a\n" * 100,
    "nothing": "",
}
READERS = {
    "dataset.yaml": lambda path: read_dataset_settings(path.parent),
    "recipe.yaml": read_recipe,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_an_error_of_some_lines_with_its_place_in_little_time_and_memory(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / "small" / name
    path.parent.mkdir()
    path.write_text(HOSTILE[kind], encoding="utf-8")
    tracemalloc.start()
    began = time.process_time()  # other work on the machine is none of it
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        READERS[name](path)
    took, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 20_000 and len(message.splitlines()) < 30
    assert took < 10 and most < 100e6


def test_what_is_wrong_is_named_with_its_line() -> None:
    for text, words in (
        (BOMB, r"p, line 6: expected YAML, found: more than 100,000 values"),
        ("a: 1\nb: " + "[" * 100, r"p, line 2: expected YAML, found: more than 60 levels"),
        ("a:\n  x: 1\n  x: 2\n", r"p, line 3: expected YAML, found: 'x' is there twice"),
        ("a: &a\n - *a\n", r"p, line 2: expected YAML, found: 'a' stands inside itself"),
        ("a: *none\n", r"p, line 1: expected YAML, found: found undefined alias 'none'"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_yaml(text, "p")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dataset.yaml"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match=r"dataset\.yaml: expected settings of at most 524,288 bytes, found 524,289"):
        read_mapping(path)


def test_ordinary_aliases_and_merges_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nouter: {inner: &b {<<: *a, x: 3}}\nc: {<<: *b, z: [*a, *a]}\n"
    assert parse_yaml(text, "p") == yaml.safe_load(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, max_examples=200)
@example(value={"": {"": []}})
@given(value=_values)
def test_what_a_writer_wrote_is_read_as_a_yaml_library_reads_it(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text, "p") == yaml.safe_load(text)


@settings(deadline=None, max_examples=300)
@given(text=st.text(alphabet=st.sampled_from("ab&*:-[]{}<!|>#'\"\n \t1"), max_size=60))
def test_any_text_is_a_value_or_an_error_in_words(text: str) -> None:
    try:
        parse_yaml(text, "p")
    except ValueError as error:
        assert str(error).startswith("p")


def test_a_value_is_shown_in_bounded_words() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**7, list(range(10**6)), {"a" * 10**6: "b" * 10**6}, 10**4000):
        assert len(shown(value)) < 1000
    assert shown([1, "a"]) == "[1, 'a']"
    assert clip("x" * 5000).endswith("(5,000 characters)")
    assert join_problems(map(str, range(100))).splitlines()[-1] == "and 80 more"
