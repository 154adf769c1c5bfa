"""Laws of the queue before the model."""

import asyncio
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from embed_pipeline.serving.batching import Batcher

TOKENS = 200


class Model:
    """Answers each text with its capitals, and keeps which texts came together; `bad` makes a batch fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def work(self, texts: Sequence[str]) -> list[str]:
        self.batches.append(list(texts))
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]


def ask(
    model: Model, *requests: Sequence[str], keys: Sequence[str] = (), batch: int = 4, counted: bool = False
) -> list[list[str] | BaseException]:
    """What each of the requests, which are there before the first batch, is answered; a letter is a token."""

    async def all_at_once() -> list[list[str] | BaseException]:
        batcher = Batcher(batch=batch, batch_tokens=TOKENS, capacity=10_000, report=lambda size: None)
        asked = [
            asyncio.create_task(batcher.submit(key, model.work, texts, [len(text) for text in texts], counted=counted))
            for key, texts in zip(keys or ["vectors"] * len(requests), requests, strict=True)
        ]
        await asyncio.sleep(0)
        running = asyncio.create_task(batcher.run())
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            running.cancel()
            batcher.close()

    return asyncio.run(all_at_once())


def texts_of_mixed_lengths(count: int, *, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [f"{seed}-{at}".ljust(int(min(80, max(8, chance.lognormvariate(3, 0.8)))), "a") for at in range(count)]


def test_a_large_request_goes_by_length_and_is_answered_in_its_order() -> None:
    model, texts = Model(), texts_of_mixed_lengths(60, seed=0)
    assert ask(model, texts) == [[text.upper() for text in texts]]
    lengths = [len(text) for batch in model.batches for text in batch]
    assert lengths == sorted(map(len, texts)) and all(sum(map(len, batch)) <= TOKENS for batch in model.batches)


def test_of_all_that_waits_like_lengths_go_together_and_nobodys_answer_is_anothers() -> None:
    model, requests = Model(), [texts_of_mixed_lengths(64, seed=seed) for seed in range(4)]
    assert ask(model, *requests) == [[text.upper() for text in texts] for texts in requests]
    tokens = sum(len(text) for texts in requests for text in texts)
    padded = sum(len(batch) * max(map(len, batch)) for batch in model.batches)
    assert len(model.batches) < 1.25 * tokens / TOKENS and padded < 1.1 * tokens


def test_a_short_request_goes_with_the_next_batch_however_much_waits_before_it() -> None:
    model, large = Model(), [texts_of_mixed_lengths(200, seed=seed) for seed in range(5)]
    long = ["b" * (TOKENS + 1)] * 20
    ask(model, *large, ["short"])
    assert "short" in model.batches[0]
    ask(model := Model(), long, ["short"])
    assert model.batches[:2] == [long[:1], ["short"]], "it waits for one batch, no more"
    ask(model := Model(), *large, ["query"], keys=[*["passages"] * 5, "queries"])
    assert model.batches[1] == ["query"]


def test_each_request_that_waits_has_its_turn_whatever_its_length() -> None:
    model, letters = Model(), "abcde"
    ask(model, *([letter * 4**at] * 2 ** (9 - at) for at, letter in enumerate(letters)))
    for letter in letters:
        turns = [at for at, batch in enumerate(model.batches) if letter in {text[0] for text in batch}]
        assert turns[0] < 2
        assert max(after - before for before, after in pairwise(turns)) <= len(letters)


def test_what_is_counted_goes_so_many_at_a_time_whatever_its_length() -> None:
    model, texts = Model(), [letter * TOKENS for letter in "abcdefghij"]
    assert ask(model, texts, counted=True) == [[text.upper() for text in texts]]
    assert [len(batch) for batch in model.batches] == [4, 4, 2]


def test_a_text_that_fails_spoils_nobody_elses_answer() -> None:
    spoiled, *whole = ask(Model(), ["good", "bad"], ["one", "two"], ["three"])
    assert isinstance(spoiled, ValueError) and whole == [["ONE", "TWO"], ["THREE"]]
    with pytest.raises(ValueError, match="bad"):
        raise spoiled
