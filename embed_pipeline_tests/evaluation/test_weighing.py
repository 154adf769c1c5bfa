"""What the scores of a hybrid variant weigh: chosen on validation queries, and on nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from embed_pipeline.assembly.variant_encoder import describe_search
from embed_pipeline.dataset.formats import RetrievalDataset
from embed_pipeline.evaluation.measures import Measure
from embed_pipeline.evaluation.weighing import weigh_scores
from embed_pipeline.project.project import Project
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.searching import Search
from embed_pipeline_tests.fakes import FakeEncoder
from embed_pipeline_tests.small_project import edit_dataset, write_full_project, write_yaml

LABELS = ("脂肪肝", "高血压", "痛风", "哮喘", "白内障", "湿疹")
QUERIES = (
    Query("v0", "查出来脂肪肝,爱吃烧烤,想给全家买一份百万医疗", "validation"),
    Query("v1", "请问能不能买,平时锻炼,就是有点高血压", "validation"),
    Query("t0", "只有测试时才问的痛风,还有别的", "test"),
)
JUDGMENTS = tuple(Judgment(query, label, 1) for query, label in (("v0", "脂肪肝"), ("v1", "高血压"), ("t0", "哮喘")))
DATASET = RetrievalDataset(QUERIES, tuple(Passage(label, label) for label in LABELS), JUDGMENTS)
FIRST = Measure("mrr", 10)


def search(**changes: object) -> Search:
    hybrid = {"dense": "tuned", "part_weights": [0, 1], "lexical_weights": [0, 5], **changes}
    recipe = Recipe.model_validate({"description": "x", "retriever": "hybrid", "hybrid": hybrid})
    return describe_search(recipe, "zh", FakeEncoder(3))  # of three dimensions: vectors that mistake much


def test_every_pair_is_measured_and_the_best_is_taken() -> None:
    weighing = weigh_scores(search(), DATASET, FIRST)
    assert weighing.measure == "mrr@10"
    assert [(point.parts, point.lexical) for point in weighing.points] == [(0, 0), (0, 5), (1, 0), (1, 5)]
    assert weighing.chosen.value == max(point.value for point in weighing.points) == 1.0
    assert weighing.points[0].value < 1.0  # else nothing was to be chosen


def test_test_queries_are_neither_encoded_nor_counted() -> None:
    found = search()
    weighing = weigh_scores(found, DATASET, FIRST)
    assert isinstance(found.encoder, FakeEncoder)
    assert not any("测试" in text or text == "还有别的" for text in found.encoder.calls)
    others = replace(DATASET, judgments=(*JUDGMENTS[:2], Judgment("t0", "湿疹", 1)))
    assert weigh_scores(search(), others, FIRST) == weighing


def test_each_text_is_encoded_once_and_no_clause_where_parts_cannot_weigh() -> None:
    found = search(part_weights=[0])
    weigh_scores(found, DATASET, FIRST)
    assert isinstance(found.encoder, FakeEncoder)
    assert sorted(found.encoder.calls) == sorted([*LABELS, QUERIES[0].text, QUERIES[1].text])


def test_without_validation_queries_nothing_can_be_chosen() -> None:
    with pytest.raises(ValueError, match="weights are chosen on validation queries, found none"):
        weigh_scores(search(), replace(DATASET, queries=QUERIES[2:]), FIRST)


def test_a_data_set_without_a_validation_split_refuses_a_hybrid_variant(tmp_path: Path) -> None:
    data = write_full_project(tmp_path)
    recipe = {"description": "three scores", "retriever": "hybrid", "hybrid": {"dense": "base"}}
    write_yaml(data / "recipes" / "hybrid.yaml", recipe)
    edit_dataset(data / "small", variants=["base", "hybrid"])
    assert "small/hybrid" in Project(data=data, home=tmp_path).variants
    edit_dataset(data / "general", variants=["base", "hybrid"])  # for evaluation only
    told = Project(data=data, home=tmp_path).broken["general"]
    assert "hybrid chooses weights on a validation split, it is missing" in told
