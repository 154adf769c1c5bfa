"""Removing what nothing refers to any more: unreachable artifacts, vectors of encoders no variant uses.

No dagster here.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from embed_pipeline.defs.graph import PAIR_SCORES_FOLDER, Graph, MissingInputError
from embed_pipeline.encoding.cross_encoder import CrossEncoderSettings
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.local import load_local_encoder
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.training.finetune import PROGRESS_FOLDER, abandoned_work, is_training


def remove_unused(graph: Graph, *, dry_run: bool) -> Iterator[str]:
    """Remove them, or with `dry_run` only look; yields one line per kind, saying how many and how large."""
    used = _encoder_fingerprints(graph)
    verb = "would remove" if dry_run else "removed"
    report = graph.store.collect_garbage(dry_run=dry_run)
    yield (
        f"artifacts: {verb} {report.removed_objects} objects, {report.removed_memos} memos and "
        f"{report.removed_leftovers} leftovers ({report.freed_bytes / 1e6:.1f} MB); {report.kept_objects} objects stay"
    )
    freed = VectorCache(graph.project.home / "vectors").gc(used, dry_run=dry_run)
    rerankers = {graph.cross_encoder(settings).fingerprint for settings in _rerankers(graph)}
    freed_scores = VectorCache(graph.project.home / PAIR_SCORES_FOLDER).gc(rerankers, dry_run=dry_run)
    abandoned = abandoned_work(graph.project.home)
    abandoned += _abandoned_progress(graph)
    for path in abandoned if not dry_run else ():
        shutil.rmtree(path)
    yield f"trainings: {verb} {len(abandoned)} folders of runs that were killed"
    yield f"vectors: {verb} {freed / 1e6:.1f} MB of encoders that no variant uses"
    yield f"pair scores: {verb} {freed_scores / 1e6:.1f} MB of cross-encoders that no variant uses"


def _abandoned_progress(graph: Graph) -> tuple[Path, ...]:
    """Checkpoints of trainings that no variant, as it is now, would go on from, and that no process is writing."""
    trained = [node for node in graph.nodes() if node.asset == "finetuned_checkpoint"]
    wanted = set()
    for node in trained:
        try:
            wanted.add(graph.plan(node).fingerprint)
        except MissingInputError:
            continue  # its fingerprint will be another one once the input is there
    found = sorted((graph.project.home / PROGRESS_FOLDER).glob("*"))
    return tuple(path for path in found if path.name not in wanted and not is_training(path))


def _encoder_fingerprints(graph: Graph) -> set[str]:
    """Fingerprints of every variant's base, of what mines for it and, where there is one, of its checkpoint."""
    encoders: list[Encoder] = []
    for variant in graph.project.variants.values():
        if variant.encoder is None:
            continue
        encoders.append(graph.base_encoder(variant.encoder))
        if variant.recipe.mining and variant.recipe.mining.scorer:
            encoders.append(graph.base_encoder(variant.recipe.mining.scorer.encoder))
        weights = graph.topology.weights(variant)
        trained = (
            graph.store.read(weights.asset, weights.partition) if weights and variant.weights_are_a_model else None
        )
        if trained is not None:
            encoders.append(load_local_encoder(variant.local_encoder, directory=graph.store.open(trained)))
    return {f for encoder in encoders for f in (encoder.query_fingerprint, encoder.passage_fingerprint)}


def _rerankers(graph: Graph) -> list[CrossEncoderSettings]:
    mining = [variant.recipe.mining for variant in graph.project.variants.values()]
    found: list[CrossEncoderSettings] = [one.reranker for one in mining if one and one.reranker]
    for variant in graph.project.variants.values():
        trained = graph.store.read("reranker_checkpoint", variant.key) if variant.recipe.rerank else None
        if trained is not None and variant.recipe.rerank:
            found.append(variant.recipe.rerank.cross_encoder(graph.store.open(trained)))
    return found
