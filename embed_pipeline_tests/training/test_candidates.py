"""Which passages a step sees: each once, drawn alike by everyone, a positive never a negative."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from embed_pipeline.encoding.encoder import EncoderSettings
from embed_pipeline.mining.groups import TrainingGroup
from embed_pipeline.records import Passage
from embed_pipeline.training.candidates import (
    SMALL_CORPUS_TOKENS,
    StepBatch,
    draw_rows,
    positive_mask,
    resolve_candidates,
)
from embed_pipeline.training.collator import StepCollator
from embed_pipeline.training.examples import Examples, build_examples
from embed_pipeline.training.settings import TrainingSettings
from embed_pipeline.training.trainer import StepSampler
from embed_pipeline_tests.small_project import LABELS, encoder_settings, write_model

PASSAGES = [Passage(f"p{at}", label) for at, label in enumerate(LABELS)]  # eight labels, p0 to p7
TEXT = {passage.id: passage.text for passage in PASSAGES}
ENCODER = EncoderSettings.model_validate(encoder_settings("unused"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    from embed_pipeline.training.vocabulary import extend_vocabulary, missing_characters

    model, extended = (tmp_path_factory.mktemp(name) for name in ("model", "extended"))
    write_model(model)
    extend_vocabulary(model, missing_characters(model, TEXT.values(), min_count=1), extended, seed=0)
    return AutoTokenizer.from_pretrained(extended)


def group(number: int, positives: str, negatives: str = "", query: str | None = None) -> TrainingGroup:
    """Passages are named by their digits: positives "02" are p0 and p2."""
    pos, neg = tuple(f"p{at}" for at in positives), tuple(f"p{at}" for at in negatives)
    return TrainingGroup(
        query_id=f"q{number}",
        query=query or f"我问{number}",
        positive_ids=pos,
        positives=tuple(TEXT[at] for at in pos),
        positive_scores=tuple(0.9 - 0.1 * at for at in range(len(pos))),
        negative_ids=neg,
        negatives=tuple(TEXT[at] for at in neg),
        negative_scores=tuple(0.5 - 0.01 * at for at in range(len(neg))),
    )


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate({"learning_rate": 1e-3, "epochs": 1, **changes})


def build(tokenizer, groups: list[TrainingGroup], passages=PASSAGES, **changes: object) -> Examples:
    return build_examples(groups, passages, tokenizer=tokenizer, encoder=ENCODER, training=settings(**changes))


def drawn(examples: Examples, *queries: int, epoch: int = 0, number: int = 0, **changes: object) -> list[int]:
    batch = StepBatch(epoch, number, queries)
    return draw_rows(
        batch,
        examples.queries,
        examples.candidates,
        settings(**changes),
        corpus_size=len(examples.passage_tokens),
    ).tolist()


@pytest.mark.parametrize(
    ("texts", "tokens", "with_negatives", "expected"),
    [
        (211, 2_000, 0, "corpus"),
        (8_000, SMALL_CORPUS_TOKENS + 1, 90, "mined"),
        (8_000, SMALL_CORPUS_TOKENS + 1, 49, "sample"),
        (SMALL_CORPUS_TOKENS, 0, 90, "mined"),
    ],
)
def test_auto_takes_a_small_corpus_else_what_was_mined_else_a_sample(texts, tokens, with_negatives, expected) -> None:
    found = resolve_candidates(
        "auto", corpus_texts=texts, corpus_tokens=tokens, queries=100, queries_with_negatives=with_negatives
    )
    assert found == expected


def test_what_is_asked_for_is_not_second_guessed() -> None:
    for asked in ("in_batch", "mined", "sample", "corpus", "flagembedding"):
        assert resolve_candidates(asked, corpus_texts=5, corpus_tokens=9, queries=1, queries_with_negatives=0) == asked


def test_in_batch_takes_the_positives_of_the_batch_each_once(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "0", "5"), group(1, "02", "6"), group(2, "4")], candidates="in_batch")
    assert len(drawn(examples, 0, 1)) == 2
    assert len(drawn(examples, 0, 1, 2)) == 3


def test_mined_adds_the_groups_negatives_and_needs_none(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "0", "56"), group(1, "1")], candidates="mined")
    assert len(drawn(examples, 0, 1)) == 4
    assert len(drawn(examples, 1)) == 1


def test_a_group_brings_as_many_passages_as_the_recipe_says(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "0123", "4567")], candidates="mined")
    assert len(drawn(examples, 0, train_group_size=4, positives_per_query=2)) == 4
    positives = set(examples.queries[0].positives)
    assert len(positives & set(drawn(examples, 0, train_group_size=4, positives_per_query=2))) == 2
    assert len(positives & set(drawn(examples, 0, train_group_size=2, positives_per_query=4))) == 1


def test_every_positive_gets_its_turn(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "0123")], candidates="in_batch")
    seen = {row for epoch in range(20) for row in drawn(examples, 0, epoch=epoch, positives_per_query=1)}
    assert seen == set(examples.queries[0].positives)


def test_the_sample_is_one_for_the_step_and_another_for_the_next(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "0"), group(1, "1")], candidates="sample")
    first, again, other = (
        drawn(examples, 0, 1, number=number, sample_size=3, seed=seed) for number, seed in ((0, 0), (0, 0), (1, 0))
    )
    assert first == again != other
    assert 3 <= len(first) <= 5
    assert len(drawn(examples, 0, sample_size=1000)) == 8


def test_a_positive_is_positive_whoever_brought_it_in(tokenizer) -> None:
    examples = build(tokenizer, [group(0, "01"), group(1, "1"), group(2, "2")], candidates="in_batch")
    columns = np.array(drawn(examples, 0, 1, 2, positives_per_query=1, seed=1))
    mask = positive_mask(examples.queries, columns)
    for query, row in zip(examples.queries, mask, strict=True):
        assert {int(column) for column in columns[row]} == set(query.positives) & set(columns.tolist())


def test_passages_of_equal_text_are_one_candidate_and_one_positive(tokenizer) -> None:
    passages = [*PASSAGES, Passage("copy", TEXT["p0"])]
    examples = build(tokenizer, [group(0, "0", "1")], passages, candidates="corpus")
    assert len(examples.passage_tokens) == len(PASSAGES)
    assert len(examples.queries[0].positives) == 1


def test_groups_of_the_same_question_share_their_positives(tokenizer) -> None:
    groups = [group(0, "0", "1", query="我问"), group(1, "1", "2", query="我问")]
    first, second = build(tokenizer, groups, candidates="mined").queries
    assert first.positives == second.positives and len(first.positives) == 2
    assert not first.negatives


def test_passages_outside_the_groups_are_read_only_where_they_are_candidates(tokenizer) -> None:
    sizes = {
        kind: len(build(tokenizer, [group(0, "0", "1")], candidates=kind).passage_tokens)
        for kind in ("in_batch", "mined", "sample", "corpus")
    }
    assert sizes == {"in_batch": 2, "mined": 2, "sample": 8, "corpus": 8}


def test_a_query_whose_positives_are_the_whole_corpus_is_left_out_and_the_others_are_as_without_it(tokenizer) -> None:
    groups = [group(at, positives, query=PASSAGES[at].text) for at, positives in enumerate(("0", "012", "12"))]
    found = build(tokenizer, groups, PASSAGES[:3], candidates="corpus")
    alone = build(tokenizer, [groups[0], groups[2]], PASSAGES[:3], candidates="corpus")
    assert (found.left_out, alone.left_out) == (("q1",), ())
    for query, expected in zip(found.queries, alone.queries, strict=True):
        assert query.positives == expected.positives
        assert (found.query_tokens.row(query.row) == alone.query_tokens.row(expected.row)).all()


def test_where_every_passage_is_a_positive_of_every_query_there_is_nothing_to_learn_from(tokenizer) -> None:
    with pytest.raises(ValueError, match=r"found none among 2: every passage is a positive of every query"):
        build(tokenizer, [group(0, "01"), group(1, "01")], PASSAGES[:2], candidates="corpus")


def test_no_groups_are_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="expected groups, found none"):
        build(tokenizer, [])


@pytest.mark.parametrize("group_by_length", [True, False])
def test_an_epoch_has_every_query_once_and_the_next_epoch_another_order(group_by_length: bool) -> None:
    sampler = StepSampler([at % 17 for at in range(103)], batch_size=10, group_by_length=group_by_length, seed=3)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append([batch.queries for (batch,) in sampler])
    assert sorted(at for batch in epochs[0] for at in batch) == list(range(103))
    assert len(epochs[0]) == len(sampler) == 11
    assert epochs[0] == epochs[2] != epochs[1]


def test_grouped_batches_hold_queries_of_similar_length() -> None:
    lengths = [at % 50 for at in range(500)]
    spreads = []
    for grouped in (True, False):
        sampler = StepSampler(lengths, batch_size=10, group_by_length=grouped, seed=0)
        batches = [[lengths[at] for at in batch.queries] for (batch,) in sampler]
        spreads.append(max(max(batch) - min(batch) for batch in batches))
    assert spreads[0] <= 1 < 20 < spreads[1]


@pytest.mark.parametrize("kind", ["in_batch", "mined", "sample", "corpus"])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_work_of_one_and_see_the_same_masks(tokenizer, kind: str, processes: int) -> None:
    groups = [group(0, "01", "45"), group(1, "1", "56"), group(2, "2"), group(3, "30", "4")]
    given = settings(candidates=kind, sample_size=3, knowledge_distillation="kl_div")
    examples = build_examples(groups, PASSAGES, tokenizer=tokenizer, encoder=ENCODER, training=given)

    def tensors(process: int, of: int):
        collator = StepCollator(examples, given, padding=0, process=process, processes=of, chunk_tokens=64)
        return collator([StepBatch(0, 0, (0, 1, 2, 3))])

    whole, parts = tensors(0, 1), [tensors(process, processes) for process in range(processes)]
    assert len({sum(len(chunk["input_ids"]) for chunk in part["passages"]) for part in parts}) == 1
    assert sum(float(part["weights"].sum()) for part in parts) / processes == pytest.approx(1.0)
    for name in ("positives", "negatives"):
        total = sum(int(part[name].sum(dim=1)[part["weights"] > 0].sum()) for part in parts)
        assert total == int(whole[name].sum())
    encoded = sum(len(chunk["input_ids"]) for chunk in whole["passages"])
    assert sum(len(chunk["input_ids"]) for part in parts for chunk in part["passages"]) < encoded + processes


@pytest.mark.parametrize(("queries", "batch"), [(641, 32), (33, 32), (64, 32), (5, 32), (1, 4)])
def test_no_batch_is_a_rest_without_anything_to_be_contrasted_with(queries: int, batch: int) -> None:
    sampler = StepSampler([1] * queries, batch_size=batch, group_by_length=True, seed=0)
    sizes = [len(step.queries) for (step,) in sampler]
    assert sum(sizes) == queries and len(sizes) == len(sampler) and max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1
