"""The course of a training as one picture, whatever was measured of it."""

from embed_pipeline.reporting.plots import TrainingPoint, plot_training

FULL = [
    TrainingPoint(step=n, loss=1 / n, validation=n / 9, learning_rate=1e-4, gradient_norm=2.0, queries_per_second=30.0)
    for n in range(1, 8)
]


def test_a_training_is_a_png_and_equal_points_give_equal_bytes() -> None:
    assert plot_training(FULL)[:8] == b"\x89PNG\r\n\x1a\n"
    assert plot_training(FULL) == plot_training(list(FULL))


def test_what_was_not_measured_is_left_out_and_changes_the_picture() -> None:
    only_loss = [TrainingPoint(step=point.step, loss=point.loss) for point in FULL]
    assert plot_training(only_loss)[:4] == b"\x89PNG" and plot_training(only_loss) != plot_training(FULL)
