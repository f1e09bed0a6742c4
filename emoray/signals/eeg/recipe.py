"""The EEG's recipe: every choice between a publisher's file and a segment of its EEG.

Source: Chen et al., EMOD, "Preprocessing"; where the paper is silent the field says what we took
and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from emoray.signals.recipe import Recipe
from emoray.vocabulary.schema import EegCard, Stream


@dataclass(frozen=True)
class EegRecipe(Recipe):
    """How a recording's EEG becomes segments; the defaults are EMOD's."""

    stream: ClassVar[Stream] = "eeg"
    positive: ClassVar[tuple[str, ...]] = (
        *Recipe.positive,
        "band_high_width_hz",
        "ica_highpass_hz",
        "ica_n_samples",
        "ica_samples_per_weight",
        "ica_max_iter",
    )
    shares: ClassVar[tuple[str, ...]] = (
        "max_bad_channels",
        "max_clipped",
        "ica_variance",
        "ica_eog_correlation",
        "ica_muscle_score",
        "ica_max_muscle",
    )

    band_low_hz: float = 0.3
    """Lower edge of the band-pass, Hz. Paper: 0.3. Of MNE's 11-s filter: 0.15 Hz passes by half,
    0.1 Hz by a fifth, 0.05 Hz by a twentieth."""
    band_high_hz: float = 49.0
    """Upper edge of the band-pass, Hz. Paper: 49."""
    band_high_width_hz: float = 1.0
    """Width of the upper transition, Hz. With 1, line noise at 50 Hz lies in the stop band; MNE's
    own choice, a quarter of the edge (12 Hz), lets it through. Paper: silent."""
    ica: Literal["fastica", "none"] = "fastica"
    """Removal of ocular and muscle components. Paper: ICA; its code: FastICA."""
    ica_highpass_hz: float = 1.0
    """High-pass of the copy that ICA is fitted on, Hz; the 0.3-Hz data are what it is applied to.
    Paper: silent; drifts spoil the fit."""
    ica_seed: int = 0
    """Seed of the fit, the same for every recording."""
    ica_n_samples: int = 40_000
    """Most samples that ICA is fitted on, evenly spaced over the recording."""
    ica_samples_per_weight: int = 20
    """Samples that each of the n x n weights of n components needs (rule of thumb of EEGLAB)."""
    ica_variance: float = 0.999
    """Share of the variance whose principal components ICA unmixes; the rest passes unchanged.
    Keeps the fit from turning sensor noise round and round."""
    ica_max_iter: int = 200
    """Most iterations of the fit; a fit that stops there is reported as not converged."""
    ica_eog_correlation: float = 0.7
    """Correlation with a frontal electrode, 1-10 Hz, from which a component is ocular. MNE's
    default, a z-score of 3, hardly finds one among 14 components (no z exceeds 3.5 there) and in
    some fits took alpha at r = 0.3 along; its default for plain correlations is 0.9."""
    ica_muscle_score: float = 0.3
    """Score of `find_bads_muscle`, a product of three in [0, 1], from which a component is muscle.
    MNE's default, 0.125, takes a third to most of the components of caps with 14 to 62."""
    ica_max_muscle: float = 0.1
    """Most components taken for muscle, as a share of all, highest scores first. Two of the three
    factors of the score say nothing with 32 electrodes or fewer."""
    ica_muscle_electrodes: int = 20
    """Fewest electrodes with which muscle is sought at all. With 14 the components of muscle and
    of brain mix, their scores overlap, and what went was as often alpha; the facts say so."""
    reference: Literal["average", "none"] = "average"
    """Re-referencing after ICA. Paper: average."""
    sfreq: Literal["paper", "code"] = "paper"
    """Sampling rate of the segments: the card's `sfreq_paper` or `sfreq_code`."""
    max_bad_channels: float = 0.15
    """Largest share of channels that may be interpolated; with more the recording is refused."""
    max_clipped: float = 0.02
    """Largest share of a segment's samples that may stay at the recording's extreme value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.band_low_hz < self.band_high_hz:
            raise ValueError(
                "need 0 < band_low_hz < band_high_hz, "
                f"got {self.band_low_hz:g} and {self.band_high_hz:g}"
            )

    def sfreq_of(self, eeg: EegCard) -> float:
        """Sampling rate of the segments of a dataset, Hz."""
        return eeg.sfreq_paper if self.sfreq == "paper" else eeg.sfreq_code
