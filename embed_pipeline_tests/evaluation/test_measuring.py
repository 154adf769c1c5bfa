"""What an evaluation writes for searches that not every part of it fits."""

from pathlib import Path

from embed_pipeline.assembly.variant_encoder import describe_search
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.evaluation.measuring import LANGUAGE_PAIRS_FOLDER, METRICS_FILE, measure_own_queries
from embed_pipeline.project.recipes import Recipe
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline.retrieval.searching import write_search_index


def test_a_classifier_over_labels_in_two_languages_is_measured_without_pairs_of_languages(tmp_path: Path) -> None:
    labels = {"gout": "en", "fracture": "en", "痛风": "zh", "骨折": "zh"}
    queries = [
        Query(f"{split} {label} {at}", f"{label} {at}", split, {"language": language})
        for label, language in labels.items()
        for split in ("train", "test")
        for at in range(2)
    ]
    passages = [Passage(label, label, {"language": language}) for label, language in labels.items()]
    dataset = build_dataset(queries, passages, [Judgment(query.id, query.id.split()[1], 1) for query in queries])
    search = describe_search(Recipe.model_validate({"description": "x", "retriever": "classifier"}), "en", None)
    index, out = tmp_path / "index", tmp_path / "out"
    index.mkdir()
    out.mkdir()
    write_search_index(search, dataset.passages, index, questions=dataset)
    measured = measure_own_queries(search, index, dataset, out, wanted_precision=0.5)
    assert {one.value for one in measured if str(one.measure) == "hit_rate@1"} == {1.0}
    assert (out / METRICS_FILE).is_file() and not (out / LANGUAGE_PAIRS_FOLDER).exists()
