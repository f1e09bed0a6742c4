"""Decks of segments, dealt again and again: random order as a function of a key and a number.

Shuffling uses the raw words of numpy's Philox, whose stream is guaranteed to stay the same between
versions (NEP 19), unlike `Generator.permutation`.

Shapes: S segments of a deck, P passes over it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from emoray.vocabulary.schema import IntArray

_BLOCK = 4096
"""Fewest words shuffled at once: small decks are made many at a time, for the steps to come."""

VERSION = "emoray plan 1"
"""Enters every key: to be raised if the same inputs are ever to give another plan."""


class Deck:
    """Segments dealt again and again, each time in a new order: all of them, then all again."""

    def __init__(self, key: int, rows_S: IntArray) -> None:
        self._key = key
        self._rows_S = rows_S
        self._block: tuple[int, IntArray] = (0, np.empty((0, len(rows_S)), dtype=np.int64))

    def draw(self, numbers: IntArray) -> IntArray:
        """Index rows of the draws with these numbers, counted from the run's first."""
        passes, places = np.divmod(numbers, len(self._rows_S))
        low, orders_PS = self._orders(int(passes.min()), int(passes.max()) + 1)
        drawn: IntArray = self._rows_S[orders_PS[passes - low, places]]
        return drawn

    def _orders(self, low: int, stop: int) -> tuple[int, IntArray]:
        """Shuffled orders of at least the passes low..stop-1, and the number of the first."""
        first, orders_PS = self._block
        if not first <= low <= stop <= first + len(orders_PS):
            size = len(self._rows_S)
            stop = max(stop, low + _BLOCK // size)
            words = _words(self._key, low * size, (stop - low) * size)
            orders_PS = np.argsort(words.reshape(stop - low, size), axis=1, kind="stable")
            first = low
            # Replaced whole: a thread that reads meanwhile sees the old block or the new one.
            self._block = (first, orders_PS)
        return first, orders_PS


def stream_key(seed: int, name: str, digest: str, region: int) -> int:
    """128 bits that name one stream, the same on every machine."""
    parts = json.dumps([VERSION, seed, name, digest, region])
    return int.from_bytes(hashlib.sha256(parts.encode()).digest()[:16], "little")


def _words(key: int, start: int, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Words start .. start+count-1 of the stream."""
    counter, skip = divmod(start, 4)  # Philox makes four words for each value of its counter
    words: np.ndarray[Any, np.dtype[np.uint64]] = np.random.Philox(
        key=key, counter=counter
    ).random_raw(skip + count)
    return words[skip:]
