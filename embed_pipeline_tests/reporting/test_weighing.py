"""The plot of a hybrid variant's weights."""

from embed_pipeline.reporting.plots import plot_weighing
from embed_pipeline.retrieval.hybrid import WeighedPoint, Weighing


def sweep(*values: float) -> Weighing:
    pairs = [(parts, lexical) for parts in (0.0, 0.5) for lexical in (0.0, 0.1, 1.0)]
    return Weighing.of(
        "precise@5", [WeighedPoint(*pair, 0.0, 0.0, value) for pair, value in zip(pairs, values, strict=True)]
    )


def test_the_picture_shows_the_values_and_which_were_chosen() -> None:
    first = plot_weighing(sweep(0.1, 0.2, 0.3, 0.4, 0.5, 0.3))
    assert first.startswith(b"\x89PNG")
    assert first == plot_weighing(sweep(0.1, 0.2, 0.3, 0.4, 0.5, 0.3))
    assert first != plot_weighing(sweep(0.1, 0.2, 0.3, 0.5, 0.4, 0.3))
    assert plot_weighing(sweep(*[0.5] * 6)).startswith(b"\x89PNG")
