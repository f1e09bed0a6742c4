"""The preprocessing recipe: every choice between a publisher's file and a segment.

Source: Chen et al., EMOD, "Preprocessing"; where the paper is silent the field says what we took
and why. A recipe is plain data: `dataclasses.asdict` and `Recipe(**d)` go through JSON unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from emoray.vocabulary.affect import EmotionTable
from emoray.vocabulary.schema import Card


@dataclass(frozen=True)
class Recipe:
    """How recordings become segments, the same for every dataset unless `exceptions` says so.

    Raises:
        ValueError: a value lies outside its range, or an exception names an unknown field.
    """

    band_low_hz: float = 0.3
    """Lower edge of the band-pass, Hz. Paper: 0.3. Of MNE's 11-s filter: 0.15 Hz passes by half,
    0.1 Hz by a fifth, 0.05 Hz by a twentieth."""
    band_high_hz: float = 49.0
    """Upper edge of the band-pass, Hz. Paper: 49."""
    band_high_width_hz: float = 1.0
    """Width of the upper transition, Hz. With 1, line noise at 50 Hz lies in the stop band; MNE's
    own choice, a quarter of the edge (12 Hz), lets it through. Paper: silent."""
    max_excursion: float = 30.0
    """Deviation of a sample from its channel's level that is absurd, in deviations that the channel
    reaches in a usual second (the median of its peaks by second); 0 for no bound. Blinks and
    movement in recordings of people reached 12. A peak is about 2.6 standard deviations, so that
    one sample of 30 holds the variance of 6,000, a seventh of what ICA is fitted on. Where the unit
    is known, physical limits hold as well (`excursions.LIMITS_UV`). Paper: silent."""
    max_gap_s: float = 0.05
    """Longest absurd excursion that is interpolated in time, s; a longer one drops the segments it
    touches. Half a wave of alpha: a straight line over more would wipe one out."""
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
    segment_s: float | None = None
    """Seconds of a segment, without overlap; None for the card's. Paper: 10 in pretraining."""
    amplitude: Literal["robust_z", "none"] = "robust_z"
    """`robust_z`: minus the median and divided by 1.4826 times the median absolute deviation,
    one pair of numbers for all electrodes, so that their differences survive and those of units
    and amplifiers do not. Paper: silent; its code: none."""
    scale_scope: Literal["recording", "presentation"] = "recording"
    """What one pair of numbers is fitted on and holds for: all kept segments of a recording, or
    those of one presentation, so that no segment of another, perhaps a test one, has a part in it.
    ICA, bad channels and absurd amplitudes are found over the recording in either case, and filters
    reach some seconds beyond a presentation. Paper: silent."""
    dtype: Literal["float32", "float16"] = "float32"
    """Number format of the segments."""
    emotions: EmotionTable = "rescaled"
    """Which table places emotion names in V-A space."""
    max_bad_channels: float = 0.15
    """Largest share of channels that may be interpolated; with more the recording is refused."""
    max_clipped: float = 0.02
    """Largest share of a segment's samples that may stay at the recording's extreme value."""
    ecg_highpass_hz: float = 0.5
    """High-pass of the ECG, Hz; what lies below half of it, wander and breath, is gone."""
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Other values for single datasets, by name: `{"faced": {"ica": "none"}}`. Paper: none; its
    code treats five datasets apart."""

    def __post_init__(self) -> None:
        _check_choices(self)
        if not 0 < self.band_low_hz < self.band_high_hz:
            raise ValueError(
                "need 0 < band_low_hz < band_high_hz, "
                f"got {self.band_low_hz:g} and {self.band_high_hz:g}"
            )
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"need {name} > 0, got {value:g}")
        if not self.max_excursion >= 0:
            raise ValueError(f"need max_excursion >= 0, got {self.max_excursion:g}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"need {name} in [0, 1], got {getattr(self, name):g}")
        known = {f.name for f in fields(self)} - {"exceptions"}
        for dataset, changes in self.exceptions.items():
            if unknown := set(changes) - known:
                raise ValueError(
                    f"need fields of Recipe in exceptions of {dataset}, "
                    f"got {', '.join(sorted(unknown))}"
                )
            self.for_dataset(dataset)

    def for_dataset(self, name: str) -> Recipe:
        """The recipe as it holds for one dataset: its exceptions applied, those of others gone."""
        return replace(self, **{**self.exceptions.get(name, {}), "exceptions": {}})

    def sfreq_of(self, card: Card) -> float:
        """Sampling rate of the segments of a dataset, Hz."""
        return card.sfreq_paper if self.sfreq == "paper" else card.sfreq_code

    def segment_s_of(self, card: Card) -> float:
        """Seconds of a segment of a dataset."""
        return card.segment_s if self.segment_s is None else self.segment_s


_SHARES = (
    "max_bad_channels",
    "max_clipped",
    "ica_variance",
    "ica_eog_correlation",
    "ica_muscle_score",
    "ica_max_muscle",
)
_POSITIVE = (
    "band_high_width_hz",
    "max_gap_s",
    "ica_highpass_hz",
    "ica_n_samples",
    "ica_samples_per_weight",
    "ica_max_iter",
    "segment_s",
    "ecg_highpass_hz",
)


def _check_choices(recipe: Recipe) -> None:
    for name, hint in get_type_hints(Recipe).items():
        choices = get_args(hint)
        value = getattr(recipe, name)
        if choices and isinstance(choices[0], str) and value not in choices:
            raise ValueError(f"need {name} among {', '.join(choices)}; got {value!r}")
