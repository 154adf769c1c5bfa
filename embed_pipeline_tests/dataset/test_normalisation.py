import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_pipeline.dataset.normalisation import (
    canonical_form,
    normalise_text,
    passage_id,
    query_id,
    split_cell,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  有点\t脂肪肝 \n\u3000能买吗 ", "有点 脂肪肝 能买吗"),
        ("ＢＭＩ２８，ＯＫ？", "BMI28,OK?"),
        ("甲\u200b状\ufeff腺\u2060结节", "甲状腺结节"),
        ("a\x00b\x07c\x85d\u2028e", "abc d e"),
        ("e\u200d\u0301", "é"),
        ("\ud800", ""),
        ("4.5×10⁹/L, 10⁻¹² and 300¹", "4.5×10^9/L, 10^−12 and 300^1"),
        ("1½ cups, 12¾", "1 1/2 cups, 12 3/4"),
        ("½ cup of 1 ¼", "1⁄2 cup of 1 1⁄4"),
        ("20m², CO₂, Ca2⁺, x², note¹, №⁹", "20m2, CO2, Ca2+, x2, note1, No9"),
        ("\u200b \u3000", ""),
    ],
)
def test_normalised_text_is_what_a_reader_sees(raw: str, expected: str) -> None:
    assert normalise_text(raw) == expected


@given(st.one_of(st.text(), st.text(alphabet="1１²⁻⁹½⅟⁄ⁿ a\u200b\u0338")))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert unicodedata.is_normalized("NFKC", once)
    once.encode("utf-8")


def test_the_line_of_a_fraction_parts_no_cell() -> None:
    parts = split_cell("１½ cups／10⁹; x", ["/", "；"])
    assert [normalise_text(part) for part in parts] == ["1 1/2 cups", "10^9", "x"]


@given(st.text())
def test_canonical_form_is_empty_only_for_empty_text(text: str) -> None:
    assert bool(canonical_form(text)) == bool(normalise_text(text))


def test_canonical_form_ignores_case_punctuation_and_white_space() -> None:
    assert canonical_form("HBV 阳性，能买吗？") == canonical_form("hbv阳性 能买吗") == "hbv阳性能买吗"
    assert canonical_form("？？") != canonical_form("!!")


def test_ids_are_the_digest_of_the_normalised_text() -> None:
    # Oracle: printf 糖尿病 | sha256sum
    assert query_id("糖尿病") == query_id(" 糖尿病\n") == "q-7b346e7da2929485"
    assert passage_id("糖尿病") == "p-7b346e7da292"
