"""Whether counts have 16 or 32 bits, as the signals themselves show it.

Shapes: C channels, T samples, 4 the bytes of 32 bits from the lowest on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_STILL, _ALIKE = 1 / 32, 1 / 8
"""How much the upper halves of 32 bits move, compared with the lower: see `_in_piece`."""
_NEARLY = 3 / 4


def shown_by(pieces: Iterable[NDArray[np.int32]]) -> int | None:
    """Bytes of one count, 2 or 4, if most pieces of signals (C, T) that move show the same.

    The pieces are the file's bytes read as 32-bit counts, whatever they are. A piece that shows
    neither is outvoted, one that shows the other width is not.
    """
    shown = [_in_piece(x_CT) for x_CT in _moving(pieces)]
    widths = {n_bytes for n_bytes in shown if n_bytes}
    return widths.pop() if len(widths) == 1 and 2 * shown.count(None) < len(shown) else None


def on_bounds(pieces: Iterable[NDArray[np.int32]], n_bytes: int) -> bool:
    """Whether counts begin where they are read, in most pieces that move.

    Their lowest bytes change most then, the highest least.
    """
    found = [_begin_here(x_CT, n_bytes) for x_CT in _moving(pieces)]
    return 2 * sum(found) > len(found)


def _moving(pieces: Iterable[NDArray[np.int32]]) -> Iterator[NDArray[np.int32]]:
    """The channels of each piece that move, without the pieces that have none."""
    for x_CT in pieces:
        moves_C = (np.diff(x_CT) != 0).any(axis=1)
        if moves_C.any():
            yield x_CT[moves_C]


def _in_piece(x_CT: NDArray[np.int32]) -> int | None:
    """Bytes of one count in a piece of signals that move, read as 32 bits.

    A 24-bit converter writes 32-bit counts below 2**23, so that their upper halves stay within
    128 of zero and hardly move while the lower ones carry the signal. In 16-bit data both halves
    of 32 bits are signals of their own, and move alike. Read as a multiple of 65536 and a signed
    rest, a small signal's sign does not count as a move of its upper half. The median over
    channels keeps a broken electrode from deciding.
    """
    wide_CT = x_CT.astype(np.int64)
    lower_CT = (wide_CT + 2**15) % 2**16 - 2**15
    halves = (lower_CT, (wide_CT - lower_CT) >> 16)
    lower_C, upper_C = (np.abs(np.diff(half_CT)).sum(axis=1) for half_CT in halves)
    share = float(np.median(upper_C / np.maximum(lower_C, 1)))
    return 4 if share < _STILL else 2 if _ALIKE < share < 1 / _ALIKE else None


def _begin_here(x_CT: NDArray[np.int32], n_bytes: int) -> bool:
    # Negative counts are folded onto positive ones, or a change of sign would change all bytes.
    counts = np.ascontiguousarray(x_CT).view(f"<i{n_bytes}")
    folded = np.where(counts < 0, ~counts, counts).view(np.uint8).reshape(*x_CT.shape, 4)
    rates_4 = np.median((np.diff(folded, axis=1) != 0).mean(axis=1), axis=0)
    rates = rates_4.reshape(-1, n_bytes)
    lowest, highest = rates[:, 0], rates[:, -1]
    return bool((lowest >= _NEARLY * rates.max(axis=1)).all() and (highest <= lowest).all())
