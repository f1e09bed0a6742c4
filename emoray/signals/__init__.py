"""Array functions that clean recordings and cut segments; `Recipe` says which and how.

`prepare` turns one recording into segments: band-pass, ICA, average reference, cut, amplitude, in
the order of Chen et al., EMOD, "Preprocessing"; before all of it, absurd amplitudes are taken out.
It loads mne, scipy and scikit-learn; a recipe needs none of them.
"""

from emoray.signals.eeg.recipe import Recipe
from emoray.signals.segmentation import count_segments

__all__ = ["Recipe", "count_segments"]
