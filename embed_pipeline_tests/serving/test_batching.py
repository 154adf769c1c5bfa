"""Laws of the queue before the model."""

import asyncio
from collections.abc import Sequence

from embed_pipeline.serving.batching import Batcher


def test_a_large_request_goes_by_length_and_is_answered_in_its_order() -> None:
    texts = ["a" * (1 + at * 7 % 20) for at in range(20)]
    batches: list[list[int]] = []

    def work(items: Sequence[str]) -> list[int]:
        batches.append([len(item) for item in items])
        return batches[-1]

    async def ask() -> list[int]:
        batcher = Batcher(batch=4, capacity=100, report=lambda size: None)
        running = asyncio.create_task(batcher.run())
        try:
            return await batcher.submit("vectors", work, texts)
        finally:
            running.cancel()
            batcher.close()

    assert asyncio.run(ask()) == [len(text) for text in texts]
    assert [size for batch in batches for size in batch] == sorted(map(len, texts))
    assert {len(batch) for batch in batches} == {4}
