"""What stands on trained weights or beside them, in the real graph: mixtures, promotion, adapters, a second stage."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from safetensors.numpy import load_file

from embed_pipeline.adaptation.adapter import read_adapter
from embed_pipeline.adaptation.building import read_adapted
from embed_pipeline.assembly.cleanup import remove_unused
from embed_pipeline.assembly.ladder import climb
from embed_pipeline.cli import main
from embed_pipeline.dataset.formats import read_dataset
from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings, TextPair, load_cross_encoder
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.evaluation.measuring import HITS_FILE
from embed_pipeline.evaluation.query_metrics import read_hits
from embed_pipeline.graph.catalogue import ASSETS, FIGURES
from embed_pipeline.graph.freshness import assess
from embed_pipeline.graph.topology import Node
from embed_pipeline.merging.candidates import read_promoted
from embed_pipeline.merging.promotion import read_sweep
from embed_pipeline.mining.groups import read_groups
from embed_pipeline.retrieval.classifier import classifier_scores, read_classifier
from embed_pipeline.retrieval.faiss_index import read_index
from embed_pipeline.retrieval.hybrid import read_weighing, split_query
from embed_pipeline.retrieval.searching import CLASSIFIER_FOLDER, NGRAMS_FOLDER
from embed_pipeline.retrieval.tfidf import read_tfidf_index, tfidf_scores
from embed_pipeline_tests.pipeline_project import PipelineProject
from embed_pipeline_tests.small_project import edit_dataset, edit_yaml, encoder_settings, write_yaml
from embed_pipeline_tests.tiny_cross_encoder import write_cross_encoder

pytestmark = pytest.mark.slow

VARIANTS = ["bm25", "base", "tuned", "merged", "adapted", "nudged", "whitened", "fused", "hybrid", "reranked"]
VARIANTS += ["over_hybrid", "over_whitened", "over_all", "over_base", "over_words", "further", "unmined"]
RERANKER = {"epochs": 3, "batch_size": 16, "train_group_size": 4, "query_max_length": 48, "passage_max_length": 16}


@pytest.fixture(scope="module")
def project(finished: PipelineProject, tmp_path_factory: pytest.TempPathFactory) -> PipelineProject:
    root = Path(shutil.copytree(finished.root, tmp_path_factory.mktemp("later") / "project"))
    data = root / "data"
    recipes, encoder = data / "recipes", encoder_settings(root / "model")
    merge = {"of": ["tuned"], "alphas": [0.0, 0.5, 1.0], "allowed_loss": 0.9, "kept_gain": 0.1}
    write_yaml(recipes / "merged.yaml", {"description": "mixed", "merge": merge})
    for name, method in (("adapted", "linear"), ("nudged", "nudge_n")):
        adaptation = {"description": name, "encoder": encoder, "adaptation": {"method": method}}
        write_yaml(recipes / f"{name}.yaml", adaptation)
    whitening = {"method": "whiten", "of": "merged"}
    write_yaml(recipes / "whitened.yaml", {"description": "whitened", "adaptation": whitening})
    weighed = {"description": "three scores over it", "retriever": "hybrid", "hybrid": {"dense": "whitened"}}
    write_yaml(recipes / "over_whitened.yaml", weighed)
    rerank = {"of": "tuned", "top_k": 5, "keep": 3, "training": RERANKER}
    write_yaml(recipes / "reranked.yaml", {"description": "two stages", "retriever": "reranked", "rerank": rerank})
    hybrid = {"dense": "tuned", "part_weights": [0.5, 1.0], "lexical_weights": [0.2, 3.0]}
    write_yaml(recipes / "hybrid.yaml", {"description": "three scores", "retriever": "hybrid", "hybrid": hybrid})
    over = {"description": "behind it", "retriever": "reranked"}
    write_yaml(recipes / "over_hybrid.yaml", {**over, "rerank": {**rerank, "of": "hybrid", "top_k": 4, "keep": 4}})
    write_yaml(recipes / "over_all.yaml", {**over, "rerank": {**rerank, "of": "over_whitened"}})
    model = {"model": str(write_cross_encoder(root / "cross_encoder"))}
    zero_shot = {**model, "top_k": 5, "keep": 3, "max_length": 64}
    for name, first_stage in (("over_base", "base"), ("over_words", "bm25")):
        write_yaml(recipes / f"{name}.yaml", {**over, "rerank": {**zero_shot, "of": first_stage}})
    unmined = yaml.safe_load((recipes / "tuned.yaml").read_text(encoding="utf-8")) | {"mining": {"number": 0}}
    write_yaml(recipes / "unmined.yaml", unmined)
    write_yaml(recipes / "further.yaml", {**over, "rerank": {**rerank, **model}})
    dataset = data / "small" / "dataset.yaml"
    content = yaml.safe_load(dataset.read_text(encoding="utf-8")) | {"variants": VARIANTS, "promotion_loss_limit": 0.9}
    write_yaml(dataset, content)
    found = PipelineProject(root)
    found.run()
    return found


def _folder(project: PipelineProject, asset: str, partition: str) -> Path:
    return project.graph.store.open(project.manifest(asset, partition))


def test_dagster_knows_every_edge(project: PipelineProject) -> None:
    nodes = tuple(project.graph.nodes())
    edges = {(upstream.asset, node.asset) for node in nodes for upstream in project.graph.upstream(node)}
    assert edges <= {(upstream, asset) for asset, found in ASSETS.items() for upstream in found.upstream}
    reranker = project.graph.upstream(Node("reranker_checkpoint", "small/over_all"))
    assert [str(node) for node in reranker] == ["mined_negatives[small/tuned]", "merged_checkpoint[small/merged]"]


def test_every_variant_has_a_row(project: PipelineProject) -> None:
    rows = (_folder(project, "metrics_table", "all") / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert {row["variant"] for row in map(json.loads, rows) if row["dataset"] == "small"} == set(VARIANTS)


def test_a_mixture_is_chosen_from_all_alphas_and_its_row_leads_to_the_tuned_weights(project: PipelineProject) -> None:
    sweep = read_sweep(_folder(project, "merged_checkpoint", "small/merged"))
    assert [point.alpha for point in sweep.points] == [0.0, 0.5, 1.0]
    assert sweep.promotion.alpha in (0.5, 1.0) and sweep.promotion.within_bounds
    manifest = project.manifest("merged_checkpoint", "small/merged")
    tuned = project.manifest("finetuned_checkpoint", "small/tuned")
    assert manifest.inputs["finetuned_checkpoint[small/tuned]"] == tuned.digest
    measured = project.manifest("query_metrics", "small/merged").inputs
    assert measured["merged_checkpoint[small/merged]"] == manifest.digest


def test_the_promoted_checkpoint_is_the_best_on_validation_and_loads(project: PipelineProject) -> None:
    from sentence_transformers import SentenceTransformer

    folder = _folder(project, "promoted_checkpoint", "small")
    promoted = read_promoted(folder)
    assert {one.variant for one in promoted.candidates} == {"base", "tuned", "merged", "unmined"}
    assert promoted.chosen in (folder / "README.md").read_text(encoding="utf-8").splitlines()[0]
    best = max(one.target for one in promoted.candidates)
    assert next(one for one in promoted.candidates if one.variant == promoted.chosen).target == best
    assert SentenceTransformer(str(folder / "model"), device="cpu").encode(["头痛"]).shape[0] == 1


def test_an_adapter_for_queries_leaves_the_corpus_as_it_was(project: PipelineProject) -> None:
    base, adapted = (read_index(_folder(project, "faiss_index", f"small/{name}")) for name in ("base", "adapted"))
    vectors = [index.faiss_index.reconstruct_n(0, len(index.passage_ids)) for index in (base, adapted)]
    np.testing.assert_array_equal(*vectors)
    assert project.encoded("faiss_index", "small/adapted") == 0  # the encoder's own vectors serve on


def test_moved_passages_are_found_where_validation_gained(project: PipelineProject) -> None:
    details = project.manifest("adapter", "small/nudged").details
    assert float(str(details["validation_after"])) >= float(str(details["validation_before"]))
    base, nudged = (read_index(_folder(project, "faiss_index", f"small/{name}")) for name in ("base", "nudged"))
    pairs = zip(*(index.faiss_index.reconstruct_n(0, len(index.passage_ids)) for index in (base, nudged)), strict=True)
    moved = sum(not np.array_equal(before, after) for before, after in pairs)
    assert moved == details["moved_passages"]


def test_whitened_vectors_stand_on_the_model_below_and_are_its_own_made_alike(project: PipelineProject) -> None:
    manifest = project.manifest("adapter", "small/whitened")
    assert set(manifest.inputs) == {"cleaned_qa[small]", "merged_checkpoint[small/merged]"}
    passes = manifest.details["passes"]
    assert isinstance(passes, list)
    values = {row["power"]: row["validation_mrr_at_10"] for row in passes if isinstance(row, dict)}
    assert list(values) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    taken = values[manifest.details["power"]]
    assert manifest.details["validation_after"] == pytest.approx(taken, abs=1e-4) and taken >= values[0]
    folder, indexes = _folder(project, "adapter", "small/whitened"), {}
    for name in ("merged", "whitened"):
        index = read_index(_folder(project, "faiss_index", f"small/{name}"))
        indexes[name] = index.faiss_index.reconstruct_n(0, len(index.passage_ids))
    mapped = read_adapter(folder).apply("passage", indexes["merged"])
    np.testing.assert_allclose(indexes["whitened"], mapped, atol=1e-6)
    assert project.encoded("faiss_index", "small/whitened") == 0  # the model's vectors serve on
    for name in ("whitened", "over_whitened"):
        inputs = project.manifest("query_metrics", f"small/{name}").inputs
        merged = project.manifest("merged_checkpoint", "small/merged").digest
        assert inputs["adapter[small/whitened]"] == manifest.digest
        assert inputs["merged_checkpoint[small/merged]"] == merged


def test_an_adaptation_behind_a_zero_shot_variant_stands_on_the_data_alone(project: PipelineProject) -> None:
    path, dataset = (project.root / "data" / name for name in ("recipes/whitened.yaml", "small/dataset.yaml"))
    texts = [one.read_text(encoding="utf-8") for one in (path, dataset)]
    edit_yaml(path, "adaptation", of="base")
    edit_dataset(dataset.parent, variants=[name for name in VARIANTS if name != "over_all"])
    try:
        graph = project.pipeline.graph()
        upstream = graph.upstream(Node("adapter", "small/whitened"))
        variant = graph.project.variants["small/whitened"]
    finally:
        for one, text in zip((path, dataset), texts, strict=True):
            one.write_text(text, encoding="utf-8")
    assert [str(found) for found in upstream] == ["cleaned_qa[small]"]
    assert variant.encoder == graph.project.variants["small/base"].encoder and variant.negatives_variant is None


def test_a_second_stage_returns_the_best_of_what_the_first_found(project: PipelineProject) -> None:
    first, second = (
        read_hits(_folder(project, "query_metrics", f"small/{name}") / HITS_FILE) for name in ("tuned", "reranked")
    )
    found: dict[str, set[str]] = {}
    for hit in first:
        if hit.rank <= 5:
            found.setdefault(hit.query_id, set()).add(hit.passage_id)
    kept: dict[str, list[str]] = {}
    for hit in second:
        kept.setdefault(hit.query_id, []).append(hit.passage_id)
    assert kept.keys() == found.keys()
    assert all(len(passages) == 3 and set(passages) <= found[query] for query, passages in kept.items())
    profile = project.manifest("query_metrics", "small/reranked").details["profile"]
    alone = project.manifest("query_metrics", "small/tuned").details["profile"]
    assert isinstance(profile, dict) and isinstance(alone, dict)
    assert profile["latency_p50_ms"] > alone["latency_p50_ms"]


def test_a_pretrained_cross_encoder_orders_what_any_first_stage_found_untrained(project: PipelineProject) -> None:
    assert Node("reranker_checkpoint", "small/over_base") not in set(project.graph.nodes())
    first, second = (
        read_hits(_folder(project, "query_metrics", f"small/{name}") / HITS_FILE) for name in ("base", "over_base")
    )
    found = {(hit.query_id, hit.passage_id) for hit in first if hit.rank <= 5}
    assert second and {(hit.query_id, hit.passage_id) for hit in second} <= found
    dataset = read_dataset(_folder(project, "cleaned_qa", "small"))
    question, text = ({one.id: one.text for one in some} for some in (dataset.queries, dataset.passages))
    settings = CrossEncoderSettings(model=str(project.root / "cross_encoder"), max_length=64)
    scores = load_cross_encoder(settings).score([TextPair(question[h.query_id], text[h.passage_id]) for h in second])
    np.testing.assert_allclose([hit.score for hit in second], scores, atol=1e-4)


def test_where_nothing_is_mined_training_reads_positives_alone(project: PipelineProject) -> None:
    mined = project.manifest("mined_negatives", "small/unmined")
    groups = read_groups(_folder(project, "mined_negatives", "small/unmined") / "groups.jsonl")
    assert groups and not any(group.negatives for group in groups)
    assert mined.details["texts_encoded"] == mined.details["texts_from_cache"] == 0
    assert "failed_blocking_checks" not in mined.details or not mined.details["failed_blocking_checks"]
    assert project.manifest("finetuned_checkpoint", "small/unmined").inputs.keys() == {"mined_negatives[small/unmined]"}


def test_a_missing_second_stage_is_named_before_anything_is_removed(project: PipelineProject) -> None:
    moved = (project.root / "cross_encoder").rename(project.root / "elsewhere")
    try:
        with pytest.raises(ValueError, match=r"recipe of small/over_base, rerank\.model: model .*cross_encoder"):
            list(remove_unused(project.graph, dry_run=False))
        assert project.graph.plan(Node("faiss_index", "small/over_base"))  # the index does without
    finally:
        moved.rename(project.root / "cross_encoder")
    assert {found.state for found in assess(project.graph)} == {"fresh"}


def test_a_pretrained_cross_encoder_is_trained_further_on_the_groups_alone(project: PipelineProject) -> None:
    manifest = project.manifest("reranker_checkpoint", "small/further")
    assert set(manifest.inputs) == {"mined_negatives[small/tuned]"}
    settings = project.graph.settings(Node("reranker_checkpoint", "small/further"))
    assert settings.keys() == {"training", "base_cross_encoder", "device", "processes"}  # nothing of the encoder
    before = load_file(project.root / "cross_encoder" / "model.safetensors")
    after = load_file(_folder(project, "reranker_checkpoint", "small/further") / "model.safetensors")
    moved = {name: float(np.abs(after[name] - before[name]).max()) for name in before}
    assert 0 < moved["classifier.weight"] < 0.5  # trained from these weights: a fresh head would be further away


def test_other_weights_of_a_pretrained_cross_encoder_concern_its_scores(project: PipelineProject) -> None:
    weights = project.root / "cross_encoder" / "model.safetensors"
    before = weights.read_bytes()
    write_cross_encoder(project.root / "cross_encoder", seed=1)
    stale = {str(found.node) for found in assess(project.graph) if found.state == "stale"}
    weights.write_bytes(before)
    figures = {f"{asset}[small/{name}]" for asset in FIGURES for name in ("over_base", "over_words")}
    assert stale == {*figures, "reranker_checkpoint[small/further]"}


def test_a_hybrid_search_takes_the_weights_that_were_best_on_validation(project: PipelineProject) -> None:
    weighing = read_weighing(_folder(project, "hybrid_weights", "small/hybrid"))
    tried = [(0.5, 0.2), (0.5, 3), (1, 0.2), (1, 3)]
    assert list(dict.fromkeys((point.parts, point.lexical) for point in weighing.points)) == tried
    assert {point.classifier for point in weighing.points} == {0, 0.1, 0.2, 0.5, 1, 2}
    assert weighing.chosen.value == max(point.value for point in weighing.points)
    manifest = project.manifest("hybrid_weights", "small/hybrid")
    tuned = project.manifest("finetuned_checkpoint", "small/tuned")
    assert manifest.inputs["finetuned_checkpoint[small/tuned]"] == tuned.digest
    measured = project.manifest("query_metrics", "small/hybrid")
    assert measured.inputs["hybrid_weights[small/hybrid]"] == manifest.digest
    hits = read_hits(_folder(project, "query_metrics", "small/hybrid") / HITS_FILE)
    vectors = read_hits(_folder(project, "query_metrics", "small/tuned") / HITS_FILE)
    ngrams = read_tfidf_index(_folder(project, "faiss_index", "small/hybrid") / NGRAMS_FOLDER)
    learnt = read_classifier(_folder(project, "faiss_index", "small/hybrid") / CLASSIFIER_FOLDER)
    whole = {(hit.query_id, hit.passage_id): hit.score for hit in vectors}
    dataset = read_dataset(_folder(project, "cleaned_qa", "small"))
    checked = 0
    for query in dataset.queries_of("test"):
        cosines = dict(zip(ngrams.passage_ids, tfidf_scores(ngrams, [query.text]).toarray()[0], strict=True))
        known = dict(zip(learnt.passage_ids, classifier_scores(learnt, [query.text])[0], strict=True))
        for hit in (hit for hit in hits if hit.query_id == query.id and not split_query(query.text)):
            # The parts of a question of one clause are the whole question.
            dense = whole[query.id, hit.passage_id] * (1 + weighing.weights.parts)
            counted = weighing.weights.lexical * cosines[hit.passage_id]
            counted += weighing.weights.classifier * known.get(hit.passage_id, 0.0)
            assert hit.score == pytest.approx(dense + counted, abs=1e-4)
            checked += 1
    assert checked > 20


def test_the_depth_of_a_hybrid_search_is_part_of_its_figures(project: PipelineProject) -> None:
    nodes = [Node(asset, "small/hybrid") for asset in ("query_metrics", "general_metrics")]
    before = [project.graph.plan(node).fingerprint for node in nodes]
    path = project.root / "data" / "recipes" / "hybrid.yaml"
    text = path.read_text(encoding="utf-8")
    edit_yaml(path, "hybrid", depth=50)
    after = [project.pipeline.graph().plan(node).fingerprint for node in nodes]
    path.write_text(text, encoding="utf-8")
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_a_second_stage_orders_what_a_hybrid_search_found(project: PipelineProject) -> None:
    first, second = (
        read_hits(_folder(project, "query_metrics", f"small/{name}") / HITS_FILE) for name in ("hybrid", "over_hybrid")
    )
    found = {(hit.query_id, hit.passage_id) for hit in first if hit.rank <= 4}
    assert {(hit.query_id, hit.passage_id) for hit in second} == found
    inputs = project.manifest("query_metrics", "small/over_hybrid").inputs
    assert inputs["hybrid_weights[small/hybrid]"] == project.manifest("hybrid_weights", "small/hybrid").digest


@pytest.mark.parametrize(
    ("recipe", "section", "changes", "touched"),
    [
        ("merged", "merge", {"allowed_loss": 0.8}, {"merged_checkpoint[small/merged]"}),
        ("adapted", "adaptation", {"learning_rate": 0.002}, {"adapter[small/adapted]"}),
        ("whitened", "adaptation", {"powers": [0.25]}, {"adapter[small/whitened]"}),
        ("reranked", "rerank", {"keep": 2}, {"query_metrics[small/reranked]", "general_metrics[small/reranked]"}),
        ("fused", "fusion", {"rank_constant": 9}, {"query_metrics[small/fused]", "general_metrics[small/fused]"}),
        ("hybrid", "hybrid", {"depth": 2}, {"hybrid_weights[small/hybrid]"}),  # the figures wait for it
        ("hybrid", "hybrid", {"part_weights": [0.0]}, {"hybrid_weights[small/hybrid]"}),
    ],
)
def test_a_changed_setting_touches_its_own_asset_and_what_stands_on_it(
    project: PipelineProject, recipe: str, section: str, changes: dict, touched: set[str]
) -> None:
    path = project.root / "data" / "recipes" / f"{recipe}.yaml"
    before = path.read_text(encoding="utf-8")
    edit_yaml(path, section, **changes)
    stale = {str(found.node) for found in assess(project.graph) if found.state == "stale"}
    path.write_text(before, encoding="utf-8")
    assert stale - {"metrics_table[all]"} == touched


@pytest.mark.parametrize(
    ("recipe", "section", "changes", "message"),
    [
        ("merged", "merge", {"of": ["base"]}, r"merge\.of: expected a fine-tuned variant of small \(tuned, unmined\)"),
        ("reranked", "rerank", {"of": "base"}, r"rerank\.of: expected a variant with fine-tuned weights"),
        ("reranked", "rerank", {"of": "reranked"}, r"rerank\.of: expected a variant with fine-tuned weights"),
        ("tuned", "mining", {"number": 0}, r"rerank\.of: expected a variant with mined negatives .*, found tuned"),
        ("over_base", "rerank", {"of": "reranked"}, r"rerank\.of: expected a variant of one stage of small"),
        ("over_base", "rerank", {"model": "bundled-english"}, r"'bundled-english' is an encoder and no cross-encoder"),
        ("over_base", "rerank", {"training": {}}, r"max_length has no effect with training"),
        ("over_base", "rerank", {"model": None, "training": None}, r"training: null needs a model to score with"),
        ("reranked", "rerank", {"revision": "abc"}, r"revision belongs to a model"),
        ("reranked", "rerank", {"keep": 9}, r"keep is 9 of top_k 5"),
        ("hybrid", "hybrid", {"dense": "bm25"}, r"hybrid\.dense: expected a dense variant of small"),
        ("hybrid", "hybrid", {"part_weights": [0.5, 0.1]}, "expected ascending weights of 0 or more without doubles"),
        ("nudged", "adaptation", {"epochs": 3}, "epochs has no effect with method nudge_n"),
        ("nudged", "adaptation", {"of": "tuned"}, "needs an encoder section, or in its place"),
        (
            "merged",
            "adaptation",
            {"method": "whiten"},
            "retriever: dense, without training or merge",
        ),
        ("adapted", "adaptation", {"powers": [0.5]}, "powers has no effect with method linear"),
        ("whitened", "adaptation", {"of": "adapted"}, r"adaptation\.of: expected a dense variant without adaptation"),
        ("whitened", "adaptation", {"of": None}, "needs an encoder section, or in its place"),
    ],
)
def test_sections_that_do_not_fit_are_refused(
    project: PipelineProject, recipe: str, section: str, changes: dict, message: str
) -> None:
    path = project.root / "data" / "recipes" / f"{recipe}.yaml"
    before = path.read_text(encoding="utf-8")
    edit_yaml(path, section, **changes)
    try:
        assert re.search(message, project.pipeline.project().broken["small"])
    finally:
        path.write_text(before, encoding="utf-8")


def test_the_command_line_says_what_to_take_and_copies_it_once(
    project: PipelineProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBED_PIPELINE_DATA", str(project.root / "data"))
    monkeypatch.setenv("EMBED_PIPELINE_HOME", str(project.root / "home"))
    chosen = read_promoted(_folder(project, "promoted_checkpoint", "small")).chosen
    found = CliRunner().invoke(main, ["promoted", "small", "--export", str(tmp_path / "copy")])
    assert found.exit_code == 0 and found.output.startswith(chosen)
    assert (tmp_path / "copy" / "model" / "model.safetensors").is_file()
    again = CliRunner().invoke(main, ["promoted", "small", "--export", str(tmp_path / "copy")])
    assert again.exit_code == 1 and "expected a new or empty folder" in again.output
    assert CliRunner().invoke(main, ["export", "small/reranked", str(tmp_path / "second")]).exit_code == 0
    assert (tmp_path / "second" / "model.safetensors").is_file()
    assert CliRunner().invoke(main, ["export", "small/hybrid", str(tmp_path / "weighed")]).exit_code == 0
    assert read_weighing(tmp_path / "weighed") and (tmp_path / "weighed" / "model.safetensors").is_file()
    assert CliRunner().invoke(main, ["export", "small/whitened", str(tmp_path / "whitened")]).exit_code == 0
    settings = project.graph.project.variants["small/merged"].local_encoder
    encoder = load_local_encoder(settings, directory=tmp_path / "whitened")
    assert read_adapted(encoder, tmp_path / "whitened" / "adapter").encoder is encoder  # made for these weights
    refused = CliRunner().invoke(main, ["mteb", "small/hybrid"])
    assert refused.exit_code == 1 and "the vectors of small/tuned. Name that one" in refused.output
    refused = CliRunner().invoke(main, ["export", "small/bm25", str(tmp_path / "third")])
    assert refused.exit_code == 1 and "nothing was trained" in refused.output


def test_the_ladder_names_the_setting_and_its_worth(project: PipelineProject) -> None:
    rungs = {rung.variant: rung for rung in climb(project.graph, "small")}
    assert list(rungs) == VARIANTS and rungs["bm25"].comparison is None
    assert rungs["whitened"].before == "merged" and rungs["over_whitened"].before == "whitened"
    assert rungs["hybrid"].before == "tuned" and rungs["reranked"].before == "tuned"
    assert rungs["whitened"].changes == ("adaptation: none → method whiten",)
    assert rungs["reranked"].changes == ("rerank: none → set", "retriever: dense → reranked")
    nudged = rungs["nudged"]
    assert nudged.before == "adapted"  # the same sections, though base is one change away too
    assert all("adaptation" in change for change in nudged.changes)
    found = nudged.comparison
    assert found is not None
    assert found.difference == pytest.approx(nudged.value - rungs[nudged.before].value)
