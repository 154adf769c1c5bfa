"""What a night runs and what it leaves for the day; a stand-in for the runs writes what they would."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from embed_pipeline.dataset.formats import build_dataset, write_dataset
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.graph.automatic_work import cost_of_questions
from embed_pipeline.graph.catalogue import ALL, JOBS
from embed_pipeline.graph.night import NIGHTLY_JOBS, reevaluate
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import Work
from embed_pipeline.records import Judgment, Passage, Query, Split
from embed_pipeline_tests.small_project import (
    edit_dataset,
    edit_yaml,
    make_rows,
    write_project,
    write_workbook,
    write_yaml,
)

QUESTIONS: dict[str, Split] = {
    "我肝上有油能买吗": "train",
    "高压一百六怎么办": "validation",
    "随身带喷雾可以吗": "test",
}
CHAT = {"service": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
EVALUATIONS = [f"evaluate_variant small/{name}" for name in ("bm25", "base", "tuned")]


@dataclass
class Place:
    """A project whose runs write stand-ins; `questions` are what the next cleaning finds."""

    pipeline: PipelineResource
    questions: dict[str, Split] = field(default_factory=lambda: dict(QUESTIONS))
    failing: Collection[str] = ()
    said: list[str] = field(default_factory=list)

    def build(self, node: Node) -> None:
        graph = self.pipeline.graph()
        graph.store.build(graph.plan(node), self._make(node))

    def sleep(self, postponed: Collection[Node] = ()) -> list[str]:
        """One night; returns its runs."""
        ran: list[str] = []

        def run(work: Work) -> tuple[str, ...]:
            ran.append(f"{work.job.name} {work.partition}")
            if ran[-1] in self.failing:
                return ("failed as told",)
            for asset in work.job.assets:
                self.build(Node(asset, work.partition))
            return ()

        self.errors = reevaluate(self.pipeline.graph, run, self.said.append, postponed)
        return ran

    def save_workbook(self, **questions: Split) -> None:
        """Another workbook, and what cleaning it will give."""
        write_workbook(Path(self.pipeline.data) / "small" / "first.xlsx", make_rows()[:-1])
        self.questions = {**self.questions, **questions}

    def _make(self, node: Node) -> Callable[[Path], dict]:
        def make(out: Path) -> dict:
            (out / "stand_in").write_text(str(sorted(self.questions.items())), encoding="utf-8")
            if node.asset == "cleaned_qa":
                queries = [Query(text, text, split) for text, split in self.questions.items()]
                judgments = [Judgment(query.id, "p") for query in queries]
                write_dataset(build_dataset(queries, [Passage("p", "脂肪肝")], judgments), out)
            return {}

        return make


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_project(tmp_path)
    return _built(Place(PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))))


def _built(place: Place, assets: Sequence[str] | None = None) -> Place:
    for node in place.pipeline.graph().nodes():
        if assets is None or node.asset in assets:
            place.build(node)
    return place


def test_every_job_belongs_to_the_night_or_trains() -> None:
    # Decide for a new job: a night trains nothing. What it does not run is measured as it stands.
    assert {job.name for job in JOBS} - set(NIGHTLY_JOBS) == {
        *("finetune_variant", "train_word_vectors", "merge_variant", "adapt_variant", "train_reranker"),
        *("weigh_scores", "promote_checkpoint", "export_variant", "publish_vectors"),
    }


def test_where_nothing_changed_the_night_only_publishes(place: Place) -> None:
    assert place.sleep() == [f"publish_metrics {ALL}"]
    assert place.errors == () and place.said == []


def test_a_file_of_the_day_is_read_cleaned_evaluated_with_the_weights_that_stand_and_published(place: Place) -> None:
    weights = place.pipeline.graph().store.read("finetuned_checkpoint", "small/tuned")
    place.save_workbook(摔断腿打过石膏="test")
    assert place.sleep() == ["read_workbooks small", "prepare_dataset small", *EVALUATIONS, f"publish_metrics {ALL}"]
    assert place.pipeline.graph().store.read("finetuned_checkpoint", "small/tuned") == weights
    assert any(line.startswith("a night trains nothing: mined_negatives[small/tuned] is stale") for line in place.said)
    assert place.sleep() == [f"publish_metrics {ALL}"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_weights_are_not_measured_on_questions_that_they_were_trained_on(place: Place, split: Split) -> None:
    moved: dict[str, Split] = {text: "test" for text, found in QUESTIONS.items() if found == split}
    place.save_workbook(**moved)
    ran = place.sleep()
    assert [run for run in ran if run in EVALUATIONS] == EVALUATIONS[:2]
    (told,) = [line for line in place.said if "small/tuned is left for the day" in line]
    assert "its weights were trained on 1 of today's test questions. Train it again." in told


def test_a_question_that_was_only_reworded_counts_as_trained_on(place: Place) -> None:
    place.save_workbook(我肝上有油能买吗呢="test")
    place.questions.pop("我肝上有油能买吗")
    assert "evaluate_variant small/tuned" not in place.sleep()


def test_weights_of_another_recipe_are_not_measured_under_the_new_one(place: Place) -> None:
    edit_yaml(Path(place.pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=9)
    place.save_workbook(摔断腿打过石膏="test")
    assert "evaluate_variant small/tuned" not in place.sleep()
    (told,) = [line for line in place.said if "small/tuned is left for the day" in line]
    assert "is of another recipe (setting training.epochs: 2.0 → 9.0)" in told


def test_a_variant_that_was_never_trained_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    write_project(tmp_path)
    place = Place(PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home")))
    assert place.sleep()[-3:] == [*EVALUATIONS[:2], f"publish_metrics {ALL}"]
    assert any("finetuned_checkpoint[small/tuned] does not exist yet" in line for line in place.said)


def test_a_hybrid_that_was_never_weighed_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    data = write_project(tmp_path)
    write_yaml(
        data / "recipes" / "hybrid.yaml", {"description": "x", "retriever": "hybrid", "hybrid": {"dense": "base"}}
    )
    edit_dataset(data / "small", variants=["bm25", "base", "hybrid"])
    place = Place(PipelineResource(data=str(data), home=str(tmp_path / "home")))
    ran = place.sleep()
    assert ran[-3:] == [*EVALUATIONS[:2], f"publish_metrics {ALL}"] and place.errors == ()
    assert any("small/hybrid is left for the day" in line and "hybrid_weights" in line for line in place.said)


def test_an_adapter_behind_weights_that_were_trained_anew_is_named_and_not_measured(tmp_path: Path) -> None:
    write_project(tmp_path)
    whitening = {"method": "whiten", "of": "tuned"}
    write_yaml(tmp_path / "data" / "recipes" / "white.yaml", {"description": "whitened", "adaptation": whitening})
    edit_dataset(tmp_path / "data" / "small", variants=["bm25", "tuned", "white"])
    place = _built(Place(PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"))))
    place.save_workbook(摔断腿打过石膏="test")
    assert "evaluate_variant small/white" in place.sleep() and place.errors == ()  # the data alone are new
    for asset in ("mined_negatives", "finetuned_checkpoint"):
        place.build(Node(asset, "small/tuned"))
    assert "evaluate_variant small/white" not in place.sleep() and place.errors == ()
    assert any("adapter[small/white] was made for other weights" in line for line in place.said)
    place.build(Node("adapter", "small/white"))
    assert "evaluate_variant small/white" in place.sleep()


def test_what_failed_is_tried_once_told_and_holds_up_only_what_stands_on_it(place: Place) -> None:
    place.save_workbook(摔断腿打过石膏="test")
    place.failing = [EVALUATIONS[1]]
    ran = place.sleep()
    assert ran[2:] == [*EVALUATIONS, f"publish_metrics {ALL}"]
    assert place.errors == ("evaluate_variant small/base: failed as told",)


def test_postponed_variants_stay_as_they_are(place: Place) -> None:
    place.save_workbook(摔断腿打过石膏="test")
    ran = place.sleep([Node("faiss_index", "small/base"), Node("query_metrics", "small/base")])
    assert EVALUATIONS[1] not in ran and ran[-1] == f"publish_metrics {ALL}"


@pytest.mark.parametrize(
    ("generator", "asks", "asked"),
    [("inverse_cloze", None, True), ("inverse_cloze", "judge", False), ("chat", "chat", False)],
)
def test_questions_that_cost_money_are_not_written_at_night(
    tmp_path: Path, generator: str, asks: str | None, asked: bool
) -> None:
    data = write_project(tmp_path)
    (data / "papers").mkdir()
    (data / "papers" / "one.md").write_text("# 等待期\n\n等待期内确诊的疾病不赔。\n", encoding="utf-8")
    synthesis = {"generator": generator, "round_trip": None, **({asks: CHAT} if asks else {})}
    content = {"description": "papers", "documents": {"files": ["*.md"]}, "synthesis": synthesis, "variants": ["bm25"]}
    write_yaml(data / "papers" / "dataset.yaml", content)
    place = _built(Place(PipelineResource(data=str(data), home=str(tmp_path / "home"))))
    (data / "papers" / "two.md").write_text("# 免赔额\n\n免赔额为一万元。\n", encoding="utf-8")
    place.questions["等待期多久算过"] = "test"
    ran = place.sleep()
    assert ran[0] == "read_documents papers"
    assert ("synthesise_questions papers" in ran, "prepare_dataset papers" in ran) == (asked, asked)


@pytest.mark.parametrize(
    ("synthesis", "costs"),
    [
        ({"judge": CHAT}, True),
        ({"judge": CHAT, "answerable_threshold": None}, False),
        ({"round_trip": {"recipe": "tuned"}}, False),
        ({"round_trip": {"recipe": "gone"}}, False),
    ],
    ids=["a judge", "a judge that nobody asks", "a recipe that is trained", "no recipe"],
)
def test_questions_cost_what_is_asked_for_them_and_broken_settings_end_no_night(
    tmp_path: Path, synthesis: dict, costs: bool
) -> None:
    data = write_project(tmp_path)
    (data / "papers").mkdir()
    (data / "papers" / "one.md").write_text("# 等待期\n\n等待期内确诊的疾病不赔。\n", encoding="utf-8")
    content = {"description": "papers", "documents": {"files": ["*.md"]}, "variants": ["bm25"]}
    asked = {"generator": "inverse_cloze", "round_trip": None} | synthesis
    write_yaml(data / "papers" / "dataset.yaml", content | {"synthesis": asked})
    graph = PipelineResource(data=str(data), home=str(tmp_path / "home")).graph()
    assert bool(cost_of_questions(graph.project, "papers")) == costs
