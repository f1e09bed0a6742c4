"""Array functions that clean recordings and cut segments; `Recipe` says which and how.

`prepare` turns one recording into segments: band-pass, ICA, average reference, cut, amplitude, in
the order of Chen et al., EMOD, "Preprocessing"; before all of it, absurd amplitudes are taken out.
"""

from emoray.signals.prepare import Prepared, SegmentRow, prepare
from emoray.signals.recipe import Recipe
from emoray.signals.slots import count_segments

__all__ = ["Prepared", "Recipe", "SegmentRow", "count_segments", "prepare"]
