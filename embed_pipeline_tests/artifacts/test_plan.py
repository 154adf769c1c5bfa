import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_pipeline.artifacts import ArtifactStore, Difference, Plan, differences
from embed_pipeline_tests.artifacts.works import Writer, plan_of


def test_fingerprint_is_the_sha256_of_the_canonical_json() -> None:
    plan = Plan(asset="a", partition="x", code_version="1", settings={"z": "疾病", "b": 1.5}, inputs={"r[x]": "d"})
    text = '{"asset":"a","code_version":"1","inputs":{"r[x]":"d"},"settings":{"b":1.5,"z":"疾病"}}'
    assert plan.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_order_of_settings_and_name_of_the_partition_do_not_change_the_fingerprint() -> None:
    one = Plan(asset="a", partition="x", code_version="1", settings={"b": 1, "c": [2]}, inputs={"r": "d", "s": "e"})
    two = Plan(asset="a", partition="y", code_version="1", settings={"c": (2,), "b": 1}, inputs={"s": "e", "r": "d"})
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    "change", [{"asset": "b"}, {"code_version": "2"}, {"settings": {"rate": 0.2}}, {"inputs": {"r": "e"}}]
)
def test_everything_that_decides_the_bytes_changes_the_fingerprint(change: dict) -> None:
    plan = plan_of(inputs={"r": "d"})
    assert replace(plan, **change).fingerprint != plan.fingerprint


@pytest.mark.parametrize("value", [math.nan, math.inf, Path("x"), {1: "a"}, {"deep": [object()]}, b"x", {1, 2}])
def test_settings_that_are_not_json_are_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"mined_negatives\[disease/bm25\] settings.*rate"):
        plan_of(value)  # type: ignore[arg-type]


def test_an_asset_name_cannot_leave_its_folder() -> None:
    with pytest.raises(ValueError, match="asset must be letters"):
        plan_of(asset="../refs")


def test_later_changes_of_what_was_passed_in_do_not_reach_the_plan() -> None:
    settings: dict = {"list": [1]}
    plan = Plan(asset="a", partition="x", code_version="1", settings=settings, inputs={})
    before = plan.fingerprint
    settings["list"].append(2)
    assert plan.fingerprint == before


def test_differences_name_the_changed_code_settings_and_inputs() -> None:
    before = Plan(
        asset="a",
        partition="x",
        code_version="1",
        settings={"training": {"rate": 0.1, "epochs": 3, "seed": None}, "top": [1, 2]},
        inputs={"cleaned_qa[x]": "old", "gone[x]": "d"},
    )
    after = Plan(
        asset="a",
        partition="x",
        code_version="2",
        settings={"training": {"rate": 0.2, "epochs": 3}, "top": [2, 1]},
        inputs={"cleaned_qa[x]": "new"},
    )
    assert differences(before, after) == (
        Difference("code", "code_version", "1", "2"),
        Difference("setting", "top", "[1,2]", "[2,1]"),
        Difference("setting", "training.rate", "0.1", "0.2"),
        Difference("setting", "training.seed", "null", None),
        Difference("input", "cleaned_qa[x]", "old", "new"),
        Difference("input", "gone[x]", "d", None),
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("a.b"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("a.b", max_size=3), inner, max_size=2),
    max_leaves=5,
)
SETTINGS = st.dictionaries(st.text("a.b", max_size=3), JSON_VALUES, max_size=2)


@given(SETTINGS, SETTINGS)
def test_no_differences_if_and_only_if_fingerprints_are_equal(one: dict, two: dict) -> None:
    before = Plan(asset="a", partition="x", code_version="1", settings=one, inputs={})
    after = replace(before, settings=two)
    assert (differences(before, after) == ()) == (before.fingerprint == after.fingerprint)


def test_a_plan_compares_with_the_manifest_that_it_would_replace(tmp_path: Path) -> None:
    built = ArtifactStore(tmp_path).build(plan_of(0.1), Writer("a"))
    assert plan_of(0.1).differences(built) == ()
    assert plan_of(0.2).differences(built) == (Difference("setting", "rate", "0.1", "0.2"),)
