"""Removing what nothing refers to any more: artifacts, vectors of encoders that nothing uses, old trainings.

And what should not have been kept: vectors that are none of a text, in the cache and in indexes.
"""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from embed_pipeline.artifacts import DamagedObjectError, Manifest, is_digest
from embed_pipeline.encoding.cross_encoder import CrossEncoder, load_cross_encoder
from embed_pipeline.encoding.hosted import HostedEncoder
from embed_pipeline.encoding.local import LocalEncoder
from embed_pipeline.encoding.vector_cache import VectorCache, find_faults
from embed_pipeline.graph.graph import COMPILED_FOLDER, PAIR_SCORES_FOLDER, VECTORS_FOLDER, Graph, MissingInputError
from embed_pipeline.graph.source_settings import round_trip_recipe
from embed_pipeline.project.variants import Variant
from embed_pipeline.retrieval.faiss_index import INDEX_FILE, read_index
from embed_pipeline.retrieval.searching import DENSE_FOLDER
from embed_pipeline.training.finetune import EVENTS_FOLDER, PROGRESS_FOLDER, abandoned_work


def remove_unused(graph: Graph, *, dry_run: bool) -> Iterator[str]:
    """Remove them, or with `dry_run` only look; yields one line per kind, saying how many and how large.

    Raises:
        ValueError: a data set or the recipe of its round trip cannot be read: what it uses is not known, nothing was
            removed.
    """
    if graph.project.broken:
        name, why = next(iter(graph.project.broken.items()))
        raise ValueError(
            f"{why}\nNothing was removed: what the data set {name} uses is not known until it can be read."
        )
    encoders, rerankers = _encoders(graph), _reranker_fingerprints(graph)  # before anything is removed
    used = {f for one in encoders for f in (one.query_fingerprint, one.passage_fingerprint)}
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
        shutil.rmtree(path, ignore_errors=True)  # a run that ends now removes its own
    yield f"trainings: {verb} {len(abandoned)} folders of runs that were killed"
    yield f"TensorBoard: {verb} {len(events)} folders of trainings whose weights no variant uses"
    yield f"compiled models: {verb} {len(compiled)} folders of models that no variant uses"
    yield f"vectors: {verb} {freed / 1e6:.1f} MB of encoders that no variant uses"
    yield f"pair scores: {verb} {freed_scores / 1e6:.1f} MB of cross-encoders that no variant uses"


def remove_half_made(graph: Graph) -> None:
    """Delete what builds of killed processes left; a training's checkpoints stay: the next run goes on from them."""
    graph.store.remove_leftovers()
    for path in abandoned_work(graph.project.home, graph.store.is_building):
        shutil.rmtree(path, ignore_errors=True)


def recheck_vectors(graph: Graph, *, dry_run: bool) -> Iterator[str]:
    """Look at every kept vector of the project's encoders and indexes; yields a line per encoder and index at fault.

    An older version kept what a service sent in place of vectors. Such vectors are removed from the cache, and an index
    that holds some is taken out of the store, unless `dry_run`: what stands on it is made again. An index that holds
    vectors compressed is judged by the kept vectors of its encoder.
    """
    cache, at_fault = VectorCache(graph.project.home / VECTORS_FOLDER), set[str]()
    verb, taken = ("would remove", "would be") if dry_run else ("removed", "is")
    for encoder in {one.fingerprint: one for one in _encoders(graph)}.values():
        roles = {encoder.query_fingerprint: "queries", encoder.passage_fingerprint: "passages"}
        for fingerprint, role in roles.items():
            unit = encoder.settings.normalize
            kept, faults = cache.recheck(fingerprint, unit_length=unit, dry_run=dry_run)
            if faults:
                at_fault.add(encoder.fingerprint)
                told = f"{verb} {_describe(faults)} of {kept} kept vectors"
                yield f"vectors of {encoder.settings.model}, {role}: {told}; they are encoded again when needed"
    for variant in _in_use(graph):
        made = graph.store.read("faiss_index", variant.key) if variant.encoder else None
        faults = _faults_of_index(graph, variant, made, at_fault) if made else ""
        if made and faults:
            at_fault.add(variant.key)
            if not dry_run:
                graph.store.forget(made)
            yield (
                f"faiss_index[{variant.key}]: {faults}; it {taken} taken out. Build it again, and what stands on it: "
                f"embed-pipeline run --variant {variant.key}"
            )
    if not at_fault:
        yield "kept vectors and indexes: each vector is one of a text"


def _faults_of_index(graph: Graph, variant: Variant, made: Manifest, at_fault: Collection[str]) -> str:
    """What is wrong with the vectors of an index, in words; empty where nothing is, or it holds none."""
    folder = graph.store.open(made)
    dense = next((part for part in (folder, folder / DENSE_FOLDER) if (part / INDEX_FILE).is_file()), None)
    if dense is None:
        return ""
    index = read_index(dense)
    vectors = index.vectors()
    if vectors is None:
        return "kept vectors of its encoder are at fault" if index.encoder_fingerprint in at_fault else ""
    # An adaptation may give another length.
    unit = bool(variant.encoder and variant.encoder.normalize and not variant.recipe.adaptation)
    faults = Counter(find_faults(vectors, unit_length=unit).values())
    return f"{_describe(faults)} of {len(vectors)} vectors" if faults else ""


def _describe(faults: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {words}" for words, count in sorted(faults.items()))


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
    going_on, published = set().union(*wanted.values()), {made.fingerprint: made for made in graph.store.refs()}
    return tuple(
        path
        for path in _made_here((graph.project.home / PROGRESS_FOLDER).glob("*"))
        if (path.name not in going_on or _is_whole(graph, published.get(path.name)))
        and not graph.store.is_building(path.name)
    )


def _is_whole(graph: Graph, version: Manifest | None) -> bool:
    """Whether a version is there and undamaged; else it is made again from where its training was."""
    try:
        return version is not None and graph.store.open(version).is_dir()
    except DamagedObjectError:
        return False


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


def _encoders(graph: Graph) -> list[LocalEncoder | HostedEncoder]:
    """Every variant's base, what mines for it and, where there is one, its checkpoint; what a round trip asks."""
    round_trips = (round_trip_recipe(graph.project, name) for name in graph.project.synthesis)
    encoders = [graph.base_encoder(recipe.encoder) for recipe in round_trips if recipe and recipe.encoder]
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


def _unused_compiled(graph: Graph, encoders: Sequence[LocalEncoder | HostedEncoder]) -> tuple[Path, ...]:
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
