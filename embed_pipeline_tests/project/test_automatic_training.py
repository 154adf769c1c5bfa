"""`training: auto`: rules that read the data's figures, and plans that hold what they came to."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from embed_pipeline.cli import main
from embed_pipeline.dataset.facts import DataFacts, data_facts
from embed_pipeline.dataset.formats import build_dataset
from embed_pipeline.graph.catalogue import DATASET_ASSETS
from embed_pipeline.graph.freshness import assess, explain
from embed_pipeline.graph.graph import FACTS, Graph, MissingInputError
from embed_pipeline.graph.lineage import measured_lineage
from embed_pipeline.graph.topology import Node
from embed_pipeline.project.automatic_training import AutomaticTraining, choose_training, format_recipe
from embed_pipeline.project.recipes import Recipe, read_recipe
from embed_pipeline.records import Judgment, Passage, Query
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import encoder_settings, mark_project, write_yaml

LABELS = DataFacts(train_queries=300, passages=77, passage_length=18, is_label_list=True)
PASSAGES = LABELS.model_copy(update={"passages": 3000, "passage_length": 240.0, "is_label_list": False})
MANY = LABELS.model_copy(update={"passages": 206})
AUTO, CHECKPOINT = "small/auto", Node("finetuned_checkpoint", "small/auto")


def _chosen(facts: DataFacts, **how: object) -> AutomaticTraining:
    return choose_training(facts, **{"layers": 12, "device": "cpu", **how})  # type: ignore[arg-type]


@pytest.mark.parametrize("facts", [LABELS, MANY, PASSAGES], ids=["labels", "many labels", "passages"])
def test_every_kind_of_data_has_a_training_that_leaves_a_layer_to_train_and_a_reason_for_each_setting(
    facts: DataFacts,
) -> None:
    for queries, layers, device in itertools.product((1, 20, 300, 5000, 100_000), (1, 2, 6, 12, 24), ("cpu", "cuda")):
        so_many = facts.model_copy(update={"train_queries": queries})
        found = _chosen(so_many, layers=layers, device=device)
        assert found.training.freeze_layers < layers
        assert set(found.reasons) == found.training.model_fields_set and all(found.reasons.values())
        assert found == _chosen(so_many, layers=layers, device=device)
        stated = {"mining": found.mining, "training": found.training}
        Recipe.model_validate({"description": "a", "encoder": encoder_settings(Path("model")), **stated})


def test_few_labels_are_all_candidates_and_of_many_a_step_has_a_draw() -> None:
    assert _chosen(LABELS).training.candidates == "corpus"
    assert _chosen(MANY).training.candidates == "sample"


def test_fewer_questions_get_more_epochs_within_bounds() -> None:
    epochs = [_chosen(LABELS.model_copy(update={"train_queries": n})).training.epochs for n in (20, 300, 1000, 5000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1]


@pytest.mark.parametrize("facts", [LABELS, MANY, PASSAGES], ids=["labels", "many labels", "passages"])
@pytest.mark.parametrize("processes", [2, 4, 8, 16])
def test_several_processes_share_the_batch_of_one_and_nothing_else_moves(facts: DataFacts, processes: int) -> None:
    alone, shared = _chosen(facts), _chosen(facts, processes=processes)
    assert shared.training == alone.training.model_copy(update={"batch_size": 16 // processes})
    assert {name for name, why in shared.reasons.items() if why != alone.reasons[name]} == {"batch_size"}
    assert shared.reasons["batch_size"].startswith(f"in each of {processes} processes, 16 a step: ")


@pytest.mark.parametrize(("processes", "together"), [(1, 16), (3, 15), (8, 16), (20, 20)])
def test_the_steps_of_the_reason_are_those_that_all_processes_take(processes: int, together: int) -> None:
    found = _chosen(LABELS.model_copy(update={"train_queries": 1200}), processes=processes)
    assert found.training.batch_size * processes == together
    assert found.reasons["epochs"] == f"1200 questions are {1200 * found.training.epochs / together:.0f} steps so"


def test_without_a_gpu_many_questions_are_drawn_from_and_with_one_all_are_taken() -> None:
    many = LABELS.model_copy(update={"train_queries": 100_000})
    assert _chosen(many).training.max_queries == 3000
    assert "100,000" in _chosen(many).reasons["max_queries"]
    with_a_gpu = _chosen(many, device="cuda").training
    assert with_a_gpu.max_queries is None


@pytest.mark.parametrize("facts", [LABELS, PASSAGES], ids=["labels", "passages"])
def test_many_questions_or_a_gpu_train_more_layers(facts: DataFacts) -> None:
    few, many = (facts.model_copy(update={"train_queries": n}) for n in (300, 1000))
    frozen = _chosen(few).training.freeze_layers
    assert frozen > _chosen(many).training.freeze_layers == _chosen(few, device="cuda").training.freeze_layers == 6


def test_few_questions_about_passages_are_gone_through_twice() -> None:
    few, many = (PASSAGES.model_copy(update={"train_queries": n}) for n in (300, 1000))
    assert (_chosen(few).training.epochs, _chosen(many).training.epochs) == (2, 1)


def test_passages_are_trained_more_gently_than_labels() -> None:
    labels, passages = _chosen(LABELS).training, _chosen(PASSAGES).training
    assert passages.learning_rate * passages.epochs < labels.learning_rate * labels.epochs


def test_the_figures_of_a_data_set_count_what_can_be_trained_on() -> None:
    queries = [Query(id=f"q{at}", text="four", split="train") for at in range(8)]
    passages = [Passage(id=name, text="ab" * (at + 1)) for at, name in enumerate("xyz")]
    judgments = [Judgment(query_id=f"q{at}", passage_id="x", grade=1) for at in range(6)]
    judgments += [Judgment("q0", "y", 1), Judgment("q7", "z", 0)]
    found = data_facts(build_dataset(queries, passages, judgments))
    assert found == DataFacts(train_queries=6, passages=3, passage_length=4, is_label_list=True)
    assert data_facts(build_dataset([], [], [])).train_queries == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mining": {"number": 3}}, "remove the mining section"),
        ({"training": "automatic"}, "training: expected 'auto', found 'automatic'"),
        ({"encoder": None}, "needs an encoder section"),
    ],
)
def test_a_recipe_that_asks_for_auto_wrongly_says_so(tmp_path: Path, change: Mapping, message: str) -> None:
    recipe = {"description": "a", "encoder": encoder_settings(Path("model")), "training": "auto"}
    write_yaml(tmp_path / "a.yaml", {name: value for name, value in {**recipe, **change}.items() if value})
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "a.yaml")


@pytest.fixture
def project(template: Path, tmp_path: Path) -> PipelineProject:
    """The small project with a variant whose training is chosen; nothing has run."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    (tmp_path / "dagster").mkdir()
    recipe = {"description": "Chosen", "encoder": encoder_settings(tmp_path / "model"), "training": "auto"}
    write_yaml(tmp_path / "data" / "recipes" / "auto.yaml", recipe)
    settings = tmp_path / "data" / "small" / "dataset.yaml"
    write_yaml(settings, yaml.safe_load(settings.read_text(encoding="utf-8")) | {"variants": ["bm25", "auto"]})
    return PipelineProject(tmp_path)


def _stand_in(graph: Graph, facts: DataFacts | None) -> None:
    """An artifact of every node, the data set's with such figures."""
    for node in graph.nodes():
        details = {FACTS: facts.model_dump()} if facts and node.asset == "cleaned_qa" else {}
        _publish(graph, node, f"{node} {facts}" if node.asset in DATASET_ASSETS else str(node), details)


def _publish(graph: Graph, node: Node, text: str, details: Mapping[str, object]) -> None:
    def make(out: Path) -> Mapping[str, object]:
        (out / "stand_in").write_text(text)
        return details

    graph.store.build(graph.plan(node), make)


def test_a_plan_holds_what_auto_came_to_and_other_data_are_another_plan(project: PipelineProject) -> None:
    with pytest.raises(MissingInputError, match=r"cleaned_qa\[small\] does not exist yet"):
        project.graph.plan(Node("mined_negatives", AUTO))
    _stand_in(project.graph, LABELS)
    before = project.graph.plan(CHECKPOINT)
    asked = before.settings["training"]
    assert isinstance(asked, dict) and asked["candidates"] == "corpus" and asked["precision"] != "auto"
    assert {item.state for item in assess(project.graph)} == {"fresh"}
    (project.root / "data" / "small" / "labels.txt").open("a", encoding="utf-8").write("又一个\n")
    _stand_in(project.graph, MANY)
    after = project.graph.plan(CHECKPOINT)
    assert after.fingerprint != before.fingerprint


def test_status_why_and_the_recipe_say_what_auto_came_to(
    project: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(project.graph, LABELS)
    chosen = _chosen(LABELS, layers=2)
    told = "\n".join(explain(project.graph, CHECKPOINT))
    assert all(line in told for line in chosen.lines)
    mark_project(project.root)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    printed = CliRunner().invoke(main, ["recipe", AUTO], catch_exceptions=False).output
    assert f"  epochs: {chosen.training.epochs}  # {chosen.reasons['epochs']}" in printed
    (project.root / "data" / "recipes" / "stated.yaml").write_text(printed, encoding="utf-8")
    stated = read_recipe(project.root / "data" / "recipes" / "stated.yaml")
    assert (stated.training, stated.mining) == (chosen.training, chosen.mining)
    assert chosen.summary in stated.description
    assert not list(format_recipe(stated, None))[-1].count("#")
    copied = CliRunner().invoke(main, ["recipe", AUTO, "--as", "own"], catch_exceptions=False).output
    assert copied.startswith("Written: ") and "own.yaml" in copied
    own = read_recipe(project.root / "data" / "recipes" / "own.yaml")
    assert own == stated.model_copy(update={"description": own.description}) and AUTO in own.description
    for named in (AUTO, "small"):
        said = CliRunner().invoke(main, ["recipe", named, "--explain"], catch_exceptions=False).output.splitlines()
        assert said == [f"{AUTO}: {chosen.summary}. The data: {LABELS.in_words}.", *chosen.lines]


@pytest.mark.parametrize(("name", "told"), [("auto", "has this name already"), ("../x", "expected small letters")])
def test_a_copied_recipe_takes_the_place_of_no_file_and_stays_in_its_folder(
    name: str, told: str, project: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(project.graph, LABELS)
    mark_project(project.root)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("EMBED_PIPELINE_HOME", "home")
    before = {path: path.read_bytes() for path in (project.root / "data").rglob("*.yaml")}
    refused = CliRunner().invoke(main, ["recipe", AUTO, "--as", name])
    assert refused.exit_code and told in refused.output
    assert {path: path.read_bytes() for path in project.root.rglob("*.yaml") if "data" in path.parts} == before


def test_a_data_set_without_a_variant_trained_by_itself_says_which_variants_it_has(
    project: PipelineProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project.root / "data" / "small" / "dataset.yaml"
    write_yaml(settings, yaml.safe_load(settings.read_text(encoding="utf-8")) | {"variants": ["bm25"]})
    mark_project(project.root)
    monkeypatch.chdir(project.root)
    refused = CliRunner().invoke(main, ["recipe", "small"])
    assert refused.exit_code == 1
    assert "expected a variant whose recipe says training: auto, found none among bm25. Name one" in refused.output


def test_a_row_states_what_its_weights_were_trained_with_though_the_data_are_others_now_or_failed_their_check(
    project: PipelineProject,
) -> None:
    _stand_in(project.graph, LABELS)
    variant = project.graph.project.variants[AUTO]
    first = measured_lineage(project.graph, variant)
    chosen = _chosen(LABELS, layers=2)
    assert first.recipe["training"]["candidates"] == "corpus" and first.seed == chosen.training.seed
    assert chosen.summary in first.recipe["description"] and first.recipe["mining"]["number"] == 0
    _clean_anew(project, "又一个", {FACTS: MANY.model_dump()})
    today = project.graph.resolved(variant).recipe.training_settings
    assert today is not None and today.candidates == "sample"
    assert measured_lineage(project.graph, variant) == first
    _clean_anew(project, "又两个", {"failed_blocking_checks": "no_leaks", "checks": []})
    with pytest.raises(MissingInputError, match="failed its check"):
        project.graph.plan(CHECKPOINT)
    assert measured_lineage(project.graph, variant) == first


def _clean_anew(project: PipelineProject, label: str, details: Mapping[str, object]) -> None:
    with (project.root / "data" / "small" / "labels.txt").open("a", encoding="utf-8") as labels:
        labels.write(f"{label}\n")
    _publish(project.graph, Node("raw_xlsx", "small"), label, {})
    _publish(project.graph, Node("cleaned_qa", "small"), label, details)


@pytest.mark.slow
def test_a_variant_whose_training_is_chosen_is_trained_measured_and_its_row_states_the_training(
    project: PipelineProject,
) -> None:
    project.run()
    graph = project.graph
    assert {item.state for item in assess(graph)} == {"fresh"}
    manifest, facts = project.manifest("finetuned_checkpoint", AUTO), project.manifest("cleaned_qa", "small").details
    chosen = choose_training(DataFacts.model_validate(facts[FACTS]), layers=2, device="cpu")
    trained = manifest.settings["training"]
    assert isinstance(trained, dict) and trained["epochs"] == chosen.training.epochs
    row = measured_lineage(graph, graph.project.variants[AUTO]).recipe
    assert row["training"]["learning_rate"] == chosen.training.learning_rate
    assert chosen.summary in row["description"]
