"""Trace drawn as text: one line per span, with a bar at its place in the group's time."""

from __future__ import annotations

from collections.abc import Sequence

from contimg.traces.spans import Span

_BAR = 40


def drawn(found: Sequence[Span]) -> list[str]:
    """Lines of a trace; steps are indented under their attempts, failures show their error."""
    whole = found[0]
    inside = sorted(found[1:], key=lambda span: (span.start, -span.seconds))
    parents = {span.id: span.parent for span in found}
    texts = ["  " * _depth(span, parents) + span.name for span in [whole, *inside]]
    width = max(map(len, texts))
    lines = [f"trace {whole.trace}"]
    for text, span in zip(texts, [whole, *inside], strict=True):
        mark = "✘" if span.failed else " "
        line = f"{text:{width}}  {_length(span.seconds):>9} {mark} {_bar(span, whole)}"
        if span.failed and "error_class" in span.attributes:
            line += f"  {span.attributes['error_class']}: {span.attributes['message']}"
        lines.append(line.rstrip())
    return lines


def _depth(span: Span, parents: dict[str, str]) -> int:
    depth, parent = 0, span.parent
    while parent:
        depth, parent = depth + 1, parents.get(parent, "")
    return depth


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bar(span: Span, whole: Span) -> str:
    """Bar of a span's place in the whole, at least one mark long."""
    scale = _BAR / max(whole.seconds, 1e-9)
    first = min(int((span.start - whole.start) * scale), _BAR - 1)
    length = max(1, round(span.seconds * scale))
    bar = ("·" if span.name.startswith("wait") else "█") * min(length, _BAR - first)
    return " " * first + bar
