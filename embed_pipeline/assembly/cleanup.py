"""Removing what nothing refers to any more: artifacts, vectors of encoders that no variant uses, old trainings."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from embed_pipeline.artifacts import is_digest
from embed_pipeline.encoding.cross_encoder import CrossEncoder, load_cross_encoder
from embed_pipeline.encoding.encoder import Encoder
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.vector_cache import VectorCache
from embed_pipeline.graph.graph import COMPILED_FOLDER, PAIR_SCORES_FOLDER, VECTORS_FOLDER, Graph, MissingInputError
from embed_pipeline.project.variants import Variant
from embed_pipeline.training.finetune import EVENTS_FOLDER, PROGRESS_FOLDER, abandoned_work


def remove_unused(graph: Graph, *, dry_run: bool) -> Iterator[str]:
    """Remove them, or with `dry_run` only look; yields one line per kind, saying how many and how large.

    Raises:
        ValueError: a data set cannot be read: what it uses is not known, nothing was removed.
    """
    if graph.project.broken:
        name, why = next(iter(graph.project.broken.items()))
        raise ValueError(
            f"{why}\nNothing was removed: what the data set {name} uses is not known until it can be read."
        )
    encoders, rerankers = _encoders(graph), _reranker_fingerprints(graph)  # before anything is removed
    used = {f for encoder in encoders for f in (encoder.query_fingerprint, encoder.passage_fingerprint)}
    verb = "would remove" if dry_run else "removed"
    report = graph.store.collect_garbage(dry_run=dry_run)
    yield (
        f"artifacts: {verb} {report.removed_objects} objects, {report.removed_memos} memos and "
        f"{report.removed_leftovers} leftovers ({report.freed_bytes / 1e6:.1f} MB); {report.kept_objects} objects stay"
    )
    freed = VectorCache(graph.project.home / VECTORS_FOLDER).gc(used, dry_run=dry_run)
    freed_scores = VectorCache(graph.project.home / PAIR_SCORES_FOLDER).gc(rerankers, dry_run=dry_run)
    wanted = _training_fingerprints(graph)
    abandoned = (*abandoned_work(graph.project.home, graph.store.is_building), *_abandoned_progress(graph, wanted))
    events = _old_event_files(graph, wanted)
    compiled = _unused_compiled(graph, encoders)
    for path in (*abandoned, *events, *compiled) if not dry_run else ():
        shutil.rmtree(path)
    yield f"trainings: {verb} {len(abandoned)} folders of runs that were killed"
    yield f"TensorBoard: {verb} {len(events)} folders of trainings whose weights no variant uses"
    yield f"compiled models: {verb} {len(compiled)} folders of models that no variant uses"
    yield f"vectors: {verb} {freed / 1e6:.1f} MB of encoders that no variant uses"
    yield f"pair scores: {verb} {freed_scores / 1e6:.1f} MB of cross-encoders that no variant uses"


def _training_fingerprints(graph: Graph) -> dict[str, set[str]]:
    """Per variant the training that its recipe asks for now, and the one whose weights it stands at."""
    found: dict[str, set[str]] = {}
    in_use = {variant.key for variant in _in_use(graph)}
    for node in graph.nodes():
        if node.asset != "finetuned_checkpoint" or node.partition not in in_use:
            continue
        made = graph.store.read(node.asset, node.partition)
        found[node.partition] = {made.fingerprint} if made else set()
        with suppress(MissingInputError):  # its fingerprint will be another one once the input is there
            found[node.partition].add(graph.plan(node).fingerprint)
    return found


def _abandoned_progress(graph: Graph, wanted: dict[str, set[str]]) -> tuple[Path, ...]:
    """Checkpoints of trainings that no variant, as it is now, would go on from, and that no process is writing."""
    known = set().union(*wanted.values())
    found = _made_here((graph.project.home / PROGRESS_FOLDER).glob("*"))
    return tuple(path for path in found if path.name not in known and not graph.store.is_building(path.name))


def _made_here(paths: Iterable[Path]) -> list[Path]:
    """The folders that are called by a fingerprint, sorted: all others are a user's own."""
    return sorted(path for path in paths if is_digest(path.name) and path.is_dir() and not path.is_symlink())


def _old_event_files(graph: Graph, wanted: dict[str, set[str]]) -> tuple[Path, ...]:
    """Event files of trainings that are neither under way nor behind a variant's weights."""
    folder = graph.project.home / EVENTS_FOLDER
    return tuple(
        path
        for path in _made_here(folder.glob("*/*/*"))
        if path.name not in wanted.get(path.parent.relative_to(folder).as_posix(), set())
        and not graph.store.is_building(path.name)
    )


def _in_use(graph: Graph) -> Iterator[Variant]:
    """The variants whose models are in use: of those on request the ones of which something was built."""
    built = {node.partition for node in graph.nodes() if graph.store.read(node.asset, node.partition) is not None}
    for variant in graph.project.variants.values():
        on_request = variant.name in graph.project.datasets[variant.dataset].variants_on_request
        if variant.key in built or not on_request:
            yield variant


def _encoders(graph: Graph) -> list[Encoder]:
    """Every variant's base, of what mines for it and, where there is one, of its checkpoint."""
    encoders: list[Encoder] = []
    for variant in _in_use(graph):
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
            encoders.append(graph.trained_encoder(variant.local_encoder, graph.store.open(trained)))
    return encoders


def _unused_compiled(graph: Graph, encoders: Sequence[Encoder]) -> tuple[Path, ...]:
    """What backends made of models that no variant uses, or with other versions of their packages."""
    used = {folder for one in encoders if isinstance(one, LocalEncoder) for folder in one.compiled_folders}
    found = sorted((graph.project.home / COMPILED_FOLDER).glob("*"))
    return tuple(path for path in found if path.is_dir() and path not in used)


def _reranker_fingerprints(graph: Graph) -> set[str]:
    """Fingerprints of every cross-encoder that scores: a miner's, and a second stage's, trained or as it is."""
    found: list[CrossEncoder | None] = []
    for variant in _in_use(graph):
        found.append(graph.mining_reranker(variant))
        if not variant.trains_reranker:
            found.append(graph.second_stage(variant))
        trained = graph.store.read("reranker_checkpoint", variant.key) if variant.trains_reranker else None
        if trained is not None and variant.recipe.rerank:
            found.append(load_cross_encoder(variant.recipe.rerank.trained(graph.store.open(trained))))
    return {one.fingerprint for one in found if one is not None}
