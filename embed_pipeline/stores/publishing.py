"""A corpus is put into a store beside what is there, held against our own scores, and then takes its place.

Belongs here: names, the order of the steps, what is measured. Does not belong here: how a store does a step (its
module), where corpora come from (assembly).
"""

import hashlib
import re
import time
from contextlib import closing, suppress
from dataclasses import dataclass

import numpy as np

from embed_pipeline.evaluation.latency import SAMPLED_QUERIES, summarise_latency
from embed_pipeline.retrieval.faiss_index import lowest_of_nearest
from embed_pipeline.retrieval.fusion import FusionSettings, reciprocal_rank_fusion
from embed_pipeline.retrieval.ranking import RankedQuery, Ranking
from embed_pipeline.stores.elasticsearch import ElasticsearchStore
from embed_pipeline.stores.store import Corpus, Place, VectorStore, open_store

COMPARED_AT = 10
SCORE_TOLERANCE = 1e-5
"""How far a store's score may be from ours, relative to the larger of 1 and ours."""
_ASKED_CHARACTERS = 300
"""Of a passage that is asked as a question: each word of it is a clause."""
_TOLD_CHARACTERS = 300
_LONGEST_ALIAS = 49
"""What the shortest limit, PostgreSQL's 63 bytes, leaves beside two underscores and twelve hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Published:
    """What stands in a store now, and how it answers."""

    alias: str
    collection: str
    points: int
    dimension: int
    uploaded: bool
    """False where all of it stood there already."""
    dropped: tuple[str, ...]
    recall: float
    """The share of the COMPARED_AT best passages of an exact search that the store finds."""
    score_difference: float
    """The largest between the store's score and ours, relative to the larger of 1 and ours."""
    query_p50_ms: float
    query_p95_ms: float
    fused: str = ""
    """How the store's own search by words and vectors ranks, where it has one and the variant fuses."""

    def __str__(self) -> str:
        sent = "sent" if self.uploaded else "there already"
        dropped = f"; dropped {', '.join(self.dropped)}" if self.dropped else ""
        return (
            f"{self.alias} leads to {self.collection}: {self.points:,} passages of {self.dimension} numbers, {sent}; "
            f"recall@{COMPARED_AT} {self.recall:.4f} of an exact search, scores at most "
            f"{self.score_difference:.1e} from ours, {self.query_p50_ms:.1f} ms a query (95 %: "
            f"{self.query_p95_ms:.1f} ms){self.fused and f'; fused there: {self.fused}'}{dropped}"
        )


def alias_of(variant: str, team: str | None = None) -> str:
    """The alias of a variant's key: lower case, digits, `_`, `-`; no two variants have the same.

    `disease/e5` is `disease-e5`, and `sales.disease-e5` for the team `sales`.
    """
    told = (f"{team}." if team else "") + variant.replace("/", "-", 1)
    alias = re.sub(r"[^a-z0-9_.-]", "_", told.lower())
    if alias != told or len(alias) > _LONGEST_ALIAS:
        alias = f"{alias[: _LONGEST_ALIAS - 9]}_{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    return alias


def publish(place: Place, corpus: Corpus, alias: str) -> Published:
    """Have the alias of a store lead to this corpus; a corpus that stands there already is not sent again.

    A new collection `alias__<digest of the content>` is built and counted, then the alias is turned to it, then earlier
    collections of that form are dropped, and nothing else. Where a step before the turn fails the alias leads where it
    led; what that leaves, and what a failed drop leaves, the next publication removes.

    Raises:
        ValueError: the store refused or could not be reached, counts other passages than were sent, or the alias is
            something else's.
    """
    with closing(open_store(place)) as store:
        try:
            return _publish(store, place, corpus, alias)
        except store.failures as error:
            raise ValueError(
                f"{place.kind} at {place.shown}, {alias}: expected a store that does what it is asked, found "
                f"{type(error).__name__}: {str(error).strip()[:600]}. Look at the store and its key and publish again; "
                "what is half there is removed then."
            ) from error


def _publish(store: VectorStore, place: Place, corpus: Corpus, alias: str) -> Published:
    name, ours = f"{alias}__{corpus.digest[:12]}", re.compile(re.escape(alias) + "__[0-9a-f]{12}")
    before, points = store.current(alias), len(corpus.passages)
    if alias in store.names(alias) or (before is not None and not ours.fullmatch(before)):
        raise ValueError(
            f"{place.kind} at {place.shown}: expected {alias} to be free or an alias of {alias}__…, found "
            f"{'one of ' + before if before else 'a collection'}. Somebody else uses the name; rename the recipe."
        )
    uploaded = before != name or store.count(name) != points
    if uploaded and before == name:
        raise ValueError(
            f"{place.kind} at {place.shown}: expected {points} passages in {name}, found {store.count(name)}: somebody "
            f"changed it. Remove {alias} and {name} there and publish again."
        )
    if uploaded:
        store.drop(name)  # what a killed publication left
        try:
            store.build(name, corpus)
            if (found := store.count(name)) != points:
                raise ValueError(
                    f"{place.kind} at {place.shown}: sent {points} passages to {name}, found {found} there. It was "
                    "removed again; look at the store's log."
                )
        except BaseException:
            with suppress(*store.failures):
                store.drop(name)
            raise
    recall, difference, milliseconds = _compare(store, name, corpus)
    fused = _compare_fused(store, name, corpus, corpus.fused.fusion) if corpus.fused else ""
    store.point(alias, name)
    dropped = [other for other in store.names(alias) if other != name and ours.fullmatch(other)]
    for other in dropped:
        store.drop(other)
    latency = summarise_latency(milliseconds)
    return Published(
        alias=alias,
        collection=name,
        points=points,
        dimension=corpus.dimension,
        uploaded=uploaded,
        dropped=tuple(dropped),
        recall=recall,
        score_difference=difference,
        query_p50_ms=latency.p50_ms if latency else 0.0,
        query_p95_ms=latency.p95_ms if latency else 0.0,
        fused=fused,
    )


def _compare(store: VectorStore, name: str, corpus: Corpus) -> tuple[float, float, list[float]]:
    """Recall, largest difference of scores, and milliseconds of each query.

    Asked are vectors of the corpus itself, a drawn sample: they cost no encoding. Passages at equal distance stand for
    each other.
    """
    row_of = {passage.id: row for row, passage in enumerate(corpus.passages)}
    wanted, reached, differences, milliseconds = min(COMPARED_AT, len(row_of)), 0, [0.0], []
    if not wanted:
        return 1.0, 0.0, []
    asked = corpus.vectors[np.random.default_rng(0).permutation(len(row_of))[:SAMPLED_QUERIES]]
    for query, worst in zip(asked, lowest_of_nearest(corpus.vectors, asked, wanted), strict=True):
        started = time.perf_counter()
        found = store.search(name, query, wanted)
        milliseconds.append((time.perf_counter() - started) * 1000)
        rows = [row_of[one.passage_id] for one in found]
        exact = corpus.vectors[rows].astype(np.float64) @ query.astype(np.float64)
        reached += int((exact >= worst - SCORE_TOLERANCE * max(1.0, abs(worst))).sum())
        scores = np.array([one.score for one in found])
        differences += list(np.abs(scores - exact) / np.maximum(1.0, np.abs(exact)))
    return round(reached / (wanted * len(asked)), 4), float(max(differences)), milliseconds


def _compare_fused(store: VectorStore, name: str, corpus: Corpus, fusion: FusionSettings) -> str:
    """For how many of a few passages, asked as questions, the store ranks as our fusion of its own two lists."""
    if not isinstance(store, ElasticsearchStore):
        return ""
    wanted, alike, milliseconds = min(COMPARED_AT, fusion.depth), 0, []
    rows = np.random.default_rng(0).permutation(len(corpus.passages))[:SAMPLED_QUERIES].tolist()
    for row in rows:
        text, vector = corpus.passages[row].text[:_ASKED_CHARACTERS], corpus.vectors[row]
        started = time.perf_counter()
        try:
            theirs = store.search_fused(name, text, vector, wanted, fusion)
        except store.failures as error:  # a licence or a version without it; the vectors can be asked all the same
            return f"refused: {str(error)[:_TOLD_CHARACTERS]} (docs/stores.md)"
        milliseconds.append((time.perf_counter() - started) * 1000)
        parts = (store.search_words(name, text, fusion.depth), store.search(name, vector, fusion.depth))
        lists = [RankedQuery("", tuple(one.passage_id for one in part), (0.0,) * len(part)) for part in parts]
        rankings = [Ranking((ranked,)) for ranked in lists]
        (ours,) = reciprocal_rank_fusion(rankings, 2 * fusion.depth, rank_constant=fusion.rank_constant).queries
        score_of = dict(zip(ours.passage_ids, ours.scores, strict=True))
        # At equal scores the order is each one's own.
        alike += [score_of.get(one.passage_id) for one in theirs] == list(ours.scores[:wanted])
    latency = summarise_latency(milliseconds)
    told = f", {latency.p50_ms:.1f} ms a query" if latency else ""
    return f"{alike} of {len(rows)} questions ranked as our fusion of its own lists{told}"
