"""Where a question is cut into what is searched for by itself."""

import pytest

from embed_pipeline.retrieval.hybrid import MAX_PARTS, split_query


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("诊断子宫腺肌病、黏膜下肌瘤,还有乳腺结节", ("诊断子宫腺肌病", "黏膜下肌瘤", "还有乳腺结节")),
        ("胃镜做过 血压BP162,尿酸506 能买吗", ("胃镜做过", "血压BP162", "尿酸506 能买吗")),
        ("客户:没有\n客户:有痛风", ("客户:没有", "客户:有痛风")),
        ("My card was lost. Can I get 1,000 at 3.5 %?", ("My card was lost", "Can I get 1,000 at 3.5 %")),
        ("a card, lost e.g. in town", ("a card", "lost e.g", "in town")),
    ],
)
def test_clauses_are_cut_at_marks_that_end_one(text: str, parts: tuple[str, ...]) -> None:
    assert split_query(text) == parts


@pytest.mark.parametrize("text", ["", "。。。", "有痛风能买吗", "1.", "where is my card", "痛风。痛风!"])
def test_a_text_of_one_clause_has_no_parts(text: str) -> None:
    assert split_query(text) == ()


def test_equal_short_and_too_many_clauses_are_left_out() -> None:
    assert split_query("痛风,痛风,我,哮喘") == ("痛风", "哮喘")
    assert len(split_query(",".join(f"part {at}" for at in range(100)))) == MAX_PARTS
