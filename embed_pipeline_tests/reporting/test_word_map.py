"""Laws of the word map: well-formed, alone, the same twice, no label over another, like words near each other."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from embed_pipeline.encoding.word_vectors import WordVectors, WordVectorSettings
from embed_pipeline.reporting.word_map import draw_word_map

SVG = "{http://www.w3.org/2000/svg}"


def word_vectors(words: list[str], vectors: np.ndarray, counts: list[int] | None = None) -> WordVectors:
    counts = counts or [1000 - at for at in range(len(words))]
    settings = WordVectorSettings(dimension=vectors.shape[1])
    return WordVectors(tuple(words), tuple(counts), vectors.astype(np.float32), "zh", settings)


def random_words(count: int, dimension: int = 8) -> WordVectors:
    vectors = np.random.default_rng(0).standard_normal((count, dimension))
    return word_vectors([f"词语{at}" for at in range(count)], vectors)


def drawn(words: WordVectors, limit: int = 150) -> ElementTree.Element:
    return ElementTree.fromstring(draw_word_map(words, limit=limit) or "")


def titles(root: ElementTree.Element) -> list[str]:
    return [circle.findtext(f"{SVG}title", "") for circle in root.iter(f"{SVG}circle")]


def labels(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_two_groups_of_words_are_drawn_apart() -> None:
    chance = np.random.default_rng(0)
    centres = np.repeat(np.eye(8)[:2], 10, axis=0)
    words = word_vectors([f"组{at}" for at in range(20)], centres + 0.1 * chance.standard_normal((20, 8)))
    circles = list(drawn(words).iter(f"{SVG}circle"))
    places = np.array([[float(circle.get("cx", "")), float(circle.get("cy", ""))] for circle in circles])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert distances[:10, :10].max() < distances[:10, 10:].min()


def test_equal_vectors_give_equal_text_and_other_vectors_another() -> None:
    assert draw_word_map(random_words(30, 4)) != draw_word_map(random_words(30))
    assert draw_word_map(random_words(30)) == draw_word_map(random_words(30))


def test_every_word_is_a_dot_and_no_label_covers_another() -> None:
    root = drawn(random_words(150))
    assert len(titles(root)) == 150
    assert 20 < len(labels(root)) <= 150
    boxes = []
    for text in root.iter(f"{SVG}text"):
        width = sum(13.0 if character > "⺀" else 7.4 for character in text.text or "")
        shift = {"start": 0.0, "middle": width / 2, "end": width}[text.get("text-anchor", "")]
        left, baseline = float(text.get("x", "")) - shift, float(text.get("y", ""))
        boxes.append((left, baseline - 11, left + width, baseline + 2))
    for at, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and right <= 860 and top >= 0 and bottom <= 600
        for other in boxes[:at]:
            assert (
                left >= other[2] - 0.2 or right <= other[0] + 0.2 or top >= other[3] - 0.2 or bottom <= other[1] + 0.2
            )


def test_the_most_frequent_words_are_shown_those_of_one_character_last() -> None:
    words = word_vectors(["的", "客户", "吗", "体检", "异常"], np.eye(5), counts=[90, 50, 40, 30, 30])
    assert titles(drawn(words, limit=3)) == ["客户: 50", "体检: 30", "异常: 30"]
    assert titles(drawn(words, limit=4))[-1] == "的: 90"


def test_markup_in_a_word_is_text() -> None:
    root = drawn(word_vectors(["<b>&\"'", "ab\x00"], np.eye(2)))
    assert titles(root) == ["<b>&\"': 1000", "ab: 999"]
    assert labels(root) == ["<b>&\"'", "ab"]


def test_the_picture_stands_alone_and_takes_the_colours_of_the_page_around_it() -> None:
    text = draw_word_map(random_words(30)) or ""
    assert set(re.findall(r' fill="([^"]*)"', text)) == {
        "var(--card, #ffffff)",
        "var(--accent, #0b6a94)",
        "var(--ink, #17202b)",
    }
    assert not re.search(r"href|url\(|<script|<style|class=", text)


def test_no_words_give_no_picture() -> None:
    assert draw_word_map(word_vectors([], np.zeros((0, 4)))) is None


@pytest.mark.parametrize("count", [1, 2, 3, 11, 12, 13])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_few_words_and_few_dimensions_can_be_drawn(count: int, dimension: int) -> None:
    assert len(titles(drawn(random_words(count, dimension)))) == count
    alike = word_vectors([f"w{at}" for at in range(count)], np.ones((count, dimension)))
    assert "nan" not in (draw_word_map(alike) or "")
    assert len(labels(drawn(word_vectors(["零零"], np.zeros((1, dimension)))))) == 1
