"""Who mines: plans that name the content of another encoder, reranker or round, and the assets that use them."""

import re
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml

from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.definitions import build_definitions
from embed_pipeline.defs.resources import PipelineResource
from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.topology import Node
from embed_pipeline.graph.work import ready_work
from embed_pipeline.mining.candidates import MiningCorpus
from embed_pipeline.mining.groups import read_groups
from embed_pipeline.mining.negatives import mine
from embed_pipeline.mining.settings import MiningSettings
from embed_pipeline.project.recipes import read_recipe
from embed_pipeline_tests.small_project import (
    edit_yaml,
    encoder_settings,
    training_settings,
    write_model,
    write_project,
    write_yaml,
)
from embed_pipeline_tests.tiny_cross_encoder import write_cross_encoder

MINING = {"range_end": 5, "number": 3, "margin_relative": None}
FIRST, SECOND = "small/tuned", "small/a_second"


def _add(data: Path, name: str, mining: dict[str, object], *, listed: bool = True) -> None:
    recipe = {
        "description": name,
        "encoder": encoder_settings(data.parent / "model"),
        "mining": {**MINING, **mining},
        "training": training_settings(),
    }
    write_yaml(data / "recipes" / f"{name}.yaml", recipe)
    dataset = yaml.safe_load((data / "small" / "dataset.yaml").read_text(encoding="utf-8"))
    if listed:
        dataset["variants"] = [name, *(v for v in dataset["variants"] if v != name)]
    write_yaml(data / "small" / "dataset.yaml", dataset)


@pytest.fixture
def pipeline(tmp_path: Path) -> PipelineResource:
    """The small project with a second round that is listed before the first."""
    _add(write_project(tmp_path), "a_second", {"weights": "tuned"})
    return PipelineResource(data=str(tmp_path / "data"), home=str(tmp_path / "home"), training_threads=1)


def _stand_in(pipeline: PipelineResource, *nodes: Node) -> None:
    graph = pipeline.graph()
    for node in nodes or graph.nodes():
        graph.store.build(graph.plan(node), lambda out, text=str(node): (out / "stand_in").write_text(text) and {})


def _materialise(pipeline: PipelineResource, job: str, partition: str, *assets: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            build_definitions(pipeline)
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                partition_key=partition,
                asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
            )
        )
    assert result.success


def _prepare(pipeline: PipelineResource) -> None:
    _materialise(pipeline, "read_workbooks", "small")
    _materialise(pipeline, "prepare_dataset", "small")


def test_the_weights_of_a_round_are_an_input_of_the_next(pipeline: PipelineResource) -> None:
    _stand_in(pipeline)
    graph = pipeline.graph()
    plan = graph.plan(Node("mined_negatives", SECOND))
    assert set(plan.inputs) == {"cleaned_qa[small]", f"finetuned_checkpoint[{FIRST}]"}
    assert "base_encoder" not in plan.settings
    order = [str(node) for node in graph.nodes()]
    assert order.index(f"finetuned_checkpoint[{FIRST}]") < order.index(f"mined_negatives[{SECOND}]")
    assert {a.state for a in assess(graph)} == {"fresh"}


def test_a_second_round_waits_for_the_first(pipeline: PipelineResource) -> None:
    graph = pipeline.graph()
    raw = [Node("raw_xlsx", "small"), Node("cleaned_qa", "small")]
    _stand_in(pipeline, *raw)
    ready = [work.partition for work in ready_work(graph) if work.job.name == "finetune_variant"]
    assert ready == [FIRST]
    _stand_in(pipeline, Node("mined_negatives", FIRST), Node("finetuned_checkpoint", FIRST))
    ready = [work.partition for work in ready_work(pipeline.graph()) if work.job.name == "finetune_variant"]
    assert ready == [SECOND]


def test_the_run_key_of_a_second_round_follows_the_weights(pipeline: PipelineResource) -> None:
    _stand_in(pipeline, Node("raw_xlsx", "small"), Node("cleaned_qa", "small"), Node("mined_negatives", FIRST))
    keys, checkpoint = set(), Node("finetuned_checkpoint", FIRST)
    for epochs in (2, 9):
        edit_yaml(Path(pipeline.data) / "recipes" / "tuned.yaml", "training", epochs=epochs)
        graph = pipeline.graph()
        graph.store.build(graph.plan(checkpoint), lambda out, n=epochs: (out / "weights").write_text(str(n)) and {})
        keys |= {work.key for work in ready_work(graph) if work.partition == SECOND and "finetune" in work.job.name}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nobody", r"mining\.weights: expected a fine-tuned variant of small \(tuned\), found 'nobody'"),
        ("base", "expected a fine-tuned variant of small"),
        ("bm25", "expected a fine-tuned variant of small"),
        ("a_second", "each variant would wait for the other's weights: a_second → a_second"),
    ],
)
def test_weights_that_cannot_mine_are_refused(pipeline: PipelineResource, weights: str, message: str) -> None:
    _add(Path(pipeline.data), "a_second", {"weights": weights})
    assert re.search(message, pipeline.project().broken["small"])


def test_rounds_that_wait_for_each_other_are_refused_and_chains_are_not(pipeline: PipelineResource) -> None:
    data = Path(pipeline.data)
    _add(data, "third", {"weights": "a_second"})
    variants = pipeline.project().variants
    source = variants["small/third"].mining_source
    assert source is not None and source.name == "a_second"
    order = [str(node) for node in pipeline.graph().nodes() if node.asset == "mined_negatives"]
    assert order == [f"mined_negatives[{name}]" for name in (FIRST, SECOND, "small/third")]
    project = pipeline.project()
    assert project.stands_on(project.variants["small/third"]) == ("small/third", SECOND, FIRST)
    assert project.stands_on(project.variants["small/base"]) == ("small/base",)
    _add(data, "tuned", {"weights": "third"})
    told = pipeline.project().broken["small"]
    assert "wait for the other's weights: tuned → third → a_second → tuned" in told


def test_the_plan_names_the_content_of_scorer_and_reranker_and_never_their_path(
    pipeline: PipelineResource, tmp_path: Path
) -> None:
    data, plans = Path(pipeline.data), []
    write_model(tmp_path / "strong", seed=3)
    write_cross_encoder(tmp_path / "reranker")
    for suffix in ("", "_moved"):
        if suffix:
            for name in ("strong", "reranker"):
                shutil.copytree(tmp_path / name, tmp_path / f"{name}{suffix}")
        scorer = {"encoder": encoder_settings(tmp_path / f"strong{suffix}")}
        reranker = {"model": str(tmp_path / f"reranker{suffix}"), "max_length": 48, "batch": 8 + len(suffix)}
        _add(data, "judged", {"scorer": scorer, "reranker": reranker, "miners": ["dense", "bm25"]})
        plans.append(pipeline.graph().settings(Node("mined_negatives", "small/judged")))
    assert plans[0] == plans[1] and str(tmp_path) not in str(plans[0])
    base = pipeline.graph().settings(Node("mined_negatives", FIRST))
    assert plans[0]["base_encoder"] != base["base_encoder"] and {"reranker", "bm25"} <= set(plans[0]) - set(base)
    write_cross_encoder(tmp_path / "reranker_moved", seed=1)
    assert pipeline.graph().settings(Node("mined_negatives", "small/judged")) != plans[0]


def test_a_hosted_encoder_may_judge_for_a_local_base(pipeline: PipelineResource) -> None:
    hosted = {"service": "compatible", "model": "m", "base_url": "http://127.0.0.1:1/v1", "vector_dimension": 4}
    _add(Path(pipeline.data), "judged", {"scorer": {"encoder": hosted}})
    settings = pipeline.graph().settings(Node("mined_negatives", "small/judged"))
    base = pipeline.graph().settings(Node("mined_negatives", FIRST))
    assert "encoder" not in settings and settings["base_encoder"] != base["base_encoder"]


def test_the_shipped_second_round_follows_the_shipped_first() -> None:
    recipes = Path(__file__).parents[2] / "data" / "recipes"
    mining = read_recipe(recipes / "minilm_second_round.yaml").mining
    assert mining is not None and mining.weights is not None
    assert read_recipe(recipes / f"{mining.weights}.yaml").training is not None


def test_a_second_round_mines_with_the_weights_of_the_first(pipeline: PipelineResource, tmp_path: Path) -> None:
    _prepare(pipeline)
    graph, tuned = pipeline.graph(), write_model(tmp_path / "tuned", seed=7)
    _stand_in(pipeline, Node("mined_negatives", FIRST))
    checkpoint = Node("finetuned_checkpoint", FIRST)
    graph.store.build(graph.plan(checkpoint), lambda out: shutil.copytree(tuned, out, dirs_exist_ok=True) and {})
    _materialise(pipeline, "finetune_variant", SECOND, "mined_negatives")
    dataset = read_dataset(graph.store.open(graph.input(Node("cleaned_qa", "small"))))
    encoder = load_local_encoder(EncoderSettings.model_validate(encoder_settings(tuned)))
    queries, passages = dataset.queries_of("train"), dataset.passages
    vectors = encoder.encode_queries([query.text for query in queries])
    corpus = encoder.encode_passages([passage.text for passage in passages])
    settings = MiningSettings.model_validate(MINING)
    expected = mine(MiningCorpus.of(passages, corpus), queries, vectors, dataset.judgments, settings).groups
    found = read_groups(graph.store.open(graph.input(Node("mined_negatives", SECOND))) / "groups.jsonl")
    assert {group.query_id: group.negative_ids for group in found} == {g.query_id: g.negative_ids for g in expected}


def test_a_cross_encoder_scores_every_pair_once_over_all_materialisations(
    pipeline: PipelineResource, tmp_path: Path
) -> None:
    reranker = {"model": str(write_cross_encoder(tmp_path / "reranker")), "max_length": 48, "batch": 16}
    _add(Path(pipeline.data), "judged", {"reranker": reranker, "miners": ["dense", "bm25"]})
    _prepare(pipeline)
    _materialise(pipeline, "finetune_variant", "small/judged", "mined_negatives")
    details = [pipeline.graph().input(Node("mined_negatives", "small/judged")).details]
    _add(Path(pipeline.data), "judged", {"reranker": reranker, "miners": ["dense", "bm25"], "margin_absolute": 0.0})
    _materialise(pipeline, "finetune_variant", "small/judged", "mined_negatives")
    manifest = pipeline.graph().input(Node("mined_negatives", "small/judged"))
    details.append(manifest.details)
    first, second = ((found["pairs_scored"], found["pairs_from_cache"]) for found in details)
    assert isinstance(first[0], int) and first[0] > 100
    assert second == (0, sum(first))  # type: ignore[arg-type]
    groups = read_groups(pipeline.graph().store.open(manifest) / "groups.jsonl")
    assert all(0 < score < 1 for group in groups for score in (*group.positive_scores, *group.negative_scores))
    assert all(max(g.negative_scores, default=0) <= min(g.positive_scores) + 1e-4 for g in groups)
    report = manifest.details["report"]
    assert isinstance(report, dict) and report["above_positive_share"] == 0
    assert report["candidates_above_positive_share"] > 0
    assert any("0.0 MB of cross-encoders" in line for line in remove_unused(pipeline.graph(), dry_run=True))


def test_the_metadata_hold_a_picture_the_report_and_groups_to_read(pipeline: PipelineResource) -> None:
    _prepare(pipeline)
    with dg.DagsterInstance.ephemeral() as instance:
        result = (
            build_definitions(pipeline)
            .resolve_job_def("finetune_variant")
            .execute_in_process(
                instance=instance, partition_key=FIRST, asset_selection=[dg.AssetKey("mined_negatives")]
            )
        )
    (made,) = result.asset_materializations_for_node("mined_negatives")
    examples = made.metadata["examples"]
    assert isinstance(examples, dg.TableMetadataValue) and len(examples.records) == 10
    assert "dense" in str(examples.records[0].data["hard negatives"])
    picture = made.metadata["score_gaps"].value
    assert isinstance(picture, str) and picture.startswith("![") and "base64" in picture
    report = made.metadata["report"]
    assert isinstance(report, dg.TableMetadataValue)
    assert {"near_copy_share", "false_negative_share"} <= {record.data["figure"] for record in report.records}
    assert np.isfinite(float(str(next(r.data["value"] for r in report.records if r.data["figure"] == "candidates"))))
