"""What the service counts, in the text format that Prometheus reads.

Belongs here: names, counters, their text. Does not belong here: what is counted where (app, server).
Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TEXTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How many observations were at most each bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        at = next((at for at, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[at] += 1
        self.sum += value

    def lines(self, name: str, labels: _Labels = ()) -> list[str]:
        """The lines of its buckets, sum and count."""
        found, total = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            found.append(f"{name}_bucket{_braced((*labels, ('le', str(bound))))} {total}")
        return [*found, f"{name}_sum{_braced(labels)} {self.sum:g}", f"{name}_count{_braced(labels)} {total}"]


class Metrics:
    """The counters of one service; used from its event loop alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """By path and status."""
        self.texts: Counter[str] = Counter()
        """Texts answered, by path."""
        self.seconds: dict[str, Histogram] = {}
        """From the request's first byte to the answer, by path."""
        self.batch = Histogram(_TEXTS)
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests[path, status] += 1
        self.seconds.setdefault(path, Histogram(_SECONDS)).observe(seconds)

    def render(self, *, waiting: int, served: Mapping[str, str]) -> str:
        """All of it; `served` are the labels of what answers now."""
        lines = [*_head("requests_total", "counter", "Answers by path and status.")]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f"{_name('requests_total')}{_braced((('path', path), ('status', str(status))))} {count}")
        lines += _head("texts_total", "counter", "Texts in answered requests.")
        lines += [f"{_name('texts_total')}{_braced((('path', path),))} {n}" for path, n in sorted(self.texts.items())]
        lines += _head("request_seconds", "histogram", "From the request to its answer.")
        for path, histogram in sorted(self.seconds.items()):
            lines += histogram.lines(_name("request_seconds"), (("path", path),))
        lines += [
            *_head("batch_texts", "histogram", "Texts that went through the model together."),
            *self.batch.lines(_name("batch_texts")),
            *_head("waiting_texts", "gauge", "Texts that wait or are under way."),
            f"{_name('waiting_texts')} {waiting}",
            *_head("reloads_total", "counter", "Newer artifacts taken or refused."),
            *(f"{_name('reloads_total')}{_braced((('outcome', key),))} {n}" for key, n in sorted(self.reloads.items())),
            *_head("served_info", "gauge", "What answers now."),
            f"{_name('served_info')}{_braced(tuple(served.items()))} 1",
        ]
        return "\n".join(lines) + "\n"


def _name(name: str) -> str:
    return f"embed_pipeline_{name}"


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP {_name(name)} {told}", f"# TYPE {_name(name)} {kind}"]


def _braced(labels: _Labels) -> str:
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    inside = ",".join(f'{name}="{value}"' for name, value in escaped)
    return f"{{{inside}}}" if inside else ""
