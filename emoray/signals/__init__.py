"""Array functions that clean recordings and cut segments; a recipe says which and how.

Each stream has a recipe and a `prepare` that turns one recording into segments. EEG: band-pass,
ICA, average reference, cut, amplitude, in the order of Chen et al., EMOD, "Preprocessing". ECG:
high-pass, cut, amplitude. Before all of it, absurd amplitudes are taken out. `prepare` loads mne,
scipy and scikit-learn; a recipe needs none of them.
"""

from emoray.signals.ecg.recipe import EcgRecipe
from emoray.signals.eeg.recipe import EegRecipe
from emoray.signals.recipe import Recipe
from emoray.signals.segmentation import count_segments

__all__ = ["EcgRecipe", "EegRecipe", "Recipe", "count_segments"]
