"""The most frequent words as a picture: dots in two dimensions, words of like use near each other.

Belongs here: choosing the words, flattening their vectors, placing dots and labels. Does not belong here: training the
vectors (encoding/word_vectors.py). The picture stands alone: inside the page it takes the page's colours for light and
dark, as an image its own light ones.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from embed_pipeline.encoding.word_vectors import WordVectors
from embed_pipeline.reporting.svg import clean, label, number, width_of

_WIDTH, _HEIGHT, _MARGIN = 860.0, 600.0, 24.0
_FONT_PIXELS = 13.0
_LARGEST_DOT, _SMALLEST_DOT = 6.0, 2.2
_FEWEST_FOR_TSNE = 12
_FONTS = (
    "system-ui, 'PingFang SC', 'Hiragino Sans GB', 'Microsoft YaHei', 'Noto Sans CJK SC', 'Noto Sans SC', sans-serif"
)


@dataclass(frozen=True, slots=True)
class _Dot:
    word: str
    count: int
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float
    anchor: Literal["start", "middle", "end"] = "middle"
    """Which end of a label stays put where the font is narrower than assumed: the one at its dot."""

    @property
    def anchored(self) -> float:
        return {"start": self.left, "middle": (self.left + self.right) / 2, "end": self.right}[self.anchor]

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def draw_word_map(word_vectors: WordVectors, *, limit: int = 150) -> str | None:
    """An SVG of the `limit` most frequent words, None without words; equal vectors give equal text.

    Words of one character come last, because in Chinese and in languages with spaces they are mostly particles. Each
    word is a dot, larger where it is frequent, that names itself on hovering; a label that would cover an earlier one
    or another dot is left out. The axes mean nothing.
    Source: van der Maaten & Hinton 2008, t-SNE, by scikit-learn; principal components below twelve words.
    """
    order = range(len(word_vectors.words))
    chosen = sorted(order, key=lambda row: (len(word_vectors.words[row]) == 1, -word_vectors.counts[row], row))[:limit]
    if not chosen:
        return None
    places = _flatten(word_vectors.vectors[chosen])
    most = max(word_vectors.counts[row] for row in chosen)
    dots = [
        _Dot(
            word=word_vectors.words[row],
            count=word_vectors.counts[row],
            x=_MARGIN + float(place[0]) * (_WIDTH - 2 * _MARGIN),
            y=_MARGIN + float(place[1]) * (_HEIGHT - 2 * _MARGIN),
            radius=max(_SMALLEST_DOT, _LARGEST_DOT * (word_vectors.counts[row] / most) ** 0.5),
        )
        for row, place in zip(chosen, places, strict=True)
    ]
    title = f"{len(dots)} frequent words, near each other where they are used alike"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(_WIDTH)} {number(_HEIGHT)}"'
            f' width="{number(_WIDTH)}" height="{number(_HEIGHT)}" style="max-width:100%;height:auto" role="img"'
            f' aria-label="{clean(title)}">',
            '<rect width="100%" height="100%" fill="var(--card, #ffffff)"/>',
            '<g fill="var(--accent, #0b6a94)" fill-opacity=".7">',
            *(_draw_dot(dot) for dot in dots),
            "</g>",
            f'<g fill="var(--ink, #17202b)" font-family="{_FONTS}" font-size="{number(_FONT_PIXELS)}">',
            *_draw_labels(dots),
            "</g>",
            "</svg>\n",
        ]
    )


def _flatten(vectors: np.ndarray) -> np.ndarray:
    """float64 (words, 2) between 0 and 1, both axes filled; all in the middle where the vectors do not differ."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    units = np.pad(units, ((0, 0), (0, max(0, 2 - units.shape[1]))))
    centred = units - units.mean(axis=0)
    if len(units) < _FEWEST_FOR_TSNE or not np.any(np.abs(centred) > 1e-6):
        flat = centred @ np.linalg.svd(centred, full_matrices=True)[2][:2].T
    else:
        flat = _tsne(units)
    low, extent = flat.min(axis=0), np.ptp(flat, axis=0)
    return np.divide(flat - low, extent, out=np.full(flat.shape, 0.5), where=extent > 1e-6)


def _tsne(units: np.ndarray) -> np.ndarray:
    """Starts from the principal components and is exact, so that no seed matters."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(15.0, (len(units) - 1) / 3)
    with threadpool_limits(1):  # other sums in another order would end in another picture
        return TSNE(perplexity=perplexity, init="pca", method="exact", random_state=0).fit_transform(units)


def _draw_dot(dot: _Dot) -> str:
    words = f"<title>{clean(f'{dot.word}: {dot.count}')}</title>"
    return f'<circle cx="{number(dot.x)}" cy="{number(dot.y)}" r="{number(dot.radius)}">{words}</circle>'


def _draw_labels(dots: list[_Dot]) -> list[str]:
    """The labels that find a free place, the most frequent words first."""
    taken = [_Box(dot.x - dot.radius, dot.y - dot.radius, dot.x + dot.radius, dot.y + dot.radius) for dot in dots]
    labels = []
    for dot in dots:
        for box in _possible_places(dot):
            inside = box.left >= 2 and box.top >= 2 and box.right <= _WIDTH - 2 and box.bottom <= _HEIGHT - 2
            if inside and not any(box.meets(other) for other in taken):
                taken.append(box)
                labels.append(label(box.anchored, box.bottom - 0.22 * _FONT_PIXELS, dot.word, anchor=box.anchor))
                break
    return labels


def _possible_places(dot: _Dot) -> list[_Box]:
    """Right of the dot, left, above, below; none touches it."""
    width, height, gap = width_of(dot.word, _FONT_PIXELS), _FONT_PIXELS * 1.15, dot.radius + 2
    top, left = dot.y - height / 2, dot.x - width / 2
    return [
        _Box(dot.x + gap, top, dot.x + gap + width, top + height, "start"),
        _Box(dot.x - gap - width, top, dot.x - gap, top + height, "end"),
        _Box(left, dot.y - gap - height, left + width, dot.y - gap),
        _Box(left, dot.y + gap, left + width, dot.y + gap + height),
    ]
