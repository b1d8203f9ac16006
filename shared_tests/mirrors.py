"""Sources side by side: lines that mean the same share a row, and words that differ are marked.

The documentation and `trihead show` draw these rows.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

Span = tuple[int, int]
"""From one character of a line to before another."""
Row = dict[str, "Line | None"]
"""Column -> its line, or None for a gap."""
WORDS = re.compile(r"#.*|\"[^\"]*\"|'[^']*'|\w+|\s+|[^\w\s]")
PUNCTUATION = " ()[]{},.:"
ALIKE = 0.4
"""Two lines mean the same if more than this part of their words is the same."""
ROW = 0.1
"""What a row costs: lines that mean the same are not worth any number of gaps."""


@dataclass(frozen=True)
class Line:
    """One line of a column, and how it differs from those beside it."""

    text: str
    lacking: Mapping[str, tuple[Span, ...]]
    """Column -> what its line on this row lacks."""
    alone: frozenset[str]
    """The columns that have no such line."""


def rows(columns: Mapping[str, str]) -> list[Row]:
    """Sources by column as rows of lines."""
    lines = {name: text.splitlines() for name, text in columns.items()}
    found: list[Row] = []
    for numbers in _aligned([*lines.values()]):
        pairs = zip(lines, numbers, strict=True)
        texts = {name: lines[name][number] for name, number in pairs if number is not None}
        found.append({name: _line(name, texts, columns) if name in texts else None for name in columns})
    return found


def _line(name: str, texts: Mapping[str, str], columns: Mapping[str, str]) -> Line:
    text = texts[name]
    others = {other: beside for other, beside in texts.items() if other != name and _gain(text, beside) > 0}
    lacking = {other: _lacking(text, beside) for other, beside in others.items()}
    return Line(text, lacking, frozenset(columns) - {name} - set(lacking))


def _aligned(columns: Sequence[Sequence[str]]) -> list[list[int | None]]:
    """Rows of line numbers, None for a gap: column after column is merged into the rows of those before it."""
    merged: list[list[int | None]] = [[number] for number in range(len(columns[0]))]
    for c, column in enumerate(columns[1:], 1):
        texts = [[columns[k][i] for k, i in enumerate(row) if i is not None] for row in merged]

        def gain(i: int, j: int, texts: list[list[str]] = texts, column: Sequence[str] = column) -> float:
            return sum(max(_gain(text, column[j]), 0) for text in texts[i]) / len(texts[i])

        pairs = _matched(len(merged), len(column), gain)
        merged = [[*(merged[i] if i is not None else [None] * c), j] for i, j in pairs]
    return merged


def _matched(height: int, width: int, gain: Callable[[int, int], float]) -> list[tuple[int | None, int | None]]:
    """Two sequences in as few rows, of as much gain, as can be; None where only one of them has a line."""
    best = [[-ROW * max(height - i, width - j) for j in range(width + 1)] for i in range(height + 1)]
    for i in reversed(range(height)):
        for j in reversed(range(width)):
            best[i][j] = max(best[i + 1][j + 1] + gain(i, j), best[i + 1][j], best[i][j + 1]) - ROW
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < height or j < width:
        if i < height and j < width and best[i][j] == best[i + 1][j + 1] + gain(i, j) - ROW:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif i < height and (j == width or best[i][j] == best[i + 1][j] - ROW):
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    return pairs


@cache
def _gain(a: str, b: str) -> float:
    """How much is won if two lines share a row; less than 0 if they had better not."""
    mine, other = (Counter(word for word in WORDS.findall(line) if word.strip(PUNCTUATION)) for line in (a, b))
    if not mine or not other:
        return 0.1 if a == b else -1
    return 2 * (mine & other).total() / (mine.total() + other.total()) - ALIKE


def _lacking(line: str, other: str) -> tuple[Span, ...]:
    """The words of a line that another lacks; punctuation only between two that are marked."""
    words, theirs = WORDS.findall(line), WORDS.findall(other)
    new = set(range(len(words)))
    for block in difflib.SequenceMatcher(None, words, theirs, autojunk=False).get_matching_blocks():
        new -= set(range(block.a, block.a + block.size))
    marked = {i for i in new if words[i].strip(PUNCTUATION) and not words[i].startswith("#")}
    for a, b in pairwise(sorted(marked)):
        if all(i in new or not words[i].strip() for i in range(a + 1, b)):
            marked |= set(range(a + 1, b))
    ends = [0, *(sum(map(len, words[: i + 1])) for i in range(len(words)))]
    return _joined([(ends[i], ends[i + 1]) for i in sorted(marked)])


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Spans that touch as one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return tuple(joined)
