"""What the recipes of all streams share: bounds, scale, length, number format, exceptions.

A recipe is plain data: `dataclasses.asdict` and `EegRecipe(**d)` go through JSON unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args, get_type_hints

from emoray.vocabulary.affect import EmotionTable
from emoray.vocabulary.schema import Card, Stream


@dataclass(frozen=True)
class Recipe:
    """How recordings become segments, the same for every dataset unless `exceptions` says so.

    Raises:
        ValueError: a value lies outside its range, or an exception names an unknown field.
    """

    stream: ClassVar[Stream]
    """Which signals it cleans."""
    version: ClassVar[int] = 1
    """Raise it when a default, or what a field does, changes: builds are addressed by the fields
    that differ from their defaults, and those made before are then built again."""
    positive: ClassVar[tuple[str, ...]] = ("max_gap_s", "segment_s")
    """Fields that must be above 0 where they are set."""
    shares: ClassVar[tuple[str, ...]] = ()
    """Fields that lie in [0, 1]."""

    max_excursion: float = 30.0
    """Deviation of a sample from its channel's level that is absurd, in deviations that the channel
    reaches in a usual second (the median of its peaks by second); 0 for no bound. Blinks and
    movement in recordings of people reached 12. A peak is about 2.6 standard deviations, so that
    one sample of 30 holds the variance of 6,000, a seventh of what ICA is fitted on. Where the unit
    is known, physical limits hold as well (`excursions.LIMITS_UV`). Paper: silent."""
    max_gap_s: float = 0.05
    """Longest absurd excursion that is interpolated in time, s; a longer one drops the segments it
    touches. Half a wave of alpha: a straight line over more would wipe one out."""
    segment_s: float | None = None
    """Seconds of a segment, without overlap; None for the card's. Paper: 10 in pretraining."""
    amplitude: Literal["robust_z", "z", "none"] = "robust_z"
    """`robust_z`: minus the median and divided by 1.4826 times the median absolute deviation. EEG:
    one pair of numbers for all electrodes, so that their differences survive and those of units
    and amplifiers do not; ECG: a pair for each lead. `z`: minus the mean and divided by the
    standard deviation, a pair for each electrode and lead. Paper: silent; its code: none."""
    scale_scope: Literal["recording", "presentation", "person"] = "recording"
    """What one pair of numbers is fitted on and holds for: all kept segments of a recording; those
    of one presentation, so that no segment of another, perhaps a test one, has a part in it; or
    those of all recordings of a person, for `z` alone. ICA, bad channels and absurd amplitudes are
    found over the recording in any case, and filters reach some seconds beyond a presentation.
    Paper: silent."""
    dtype: Literal["float32", "float16"] = "float32"
    """Number format of the segments."""
    emotions: EmotionTable = "rescaled"
    """Which table places emotion names in V-A space."""
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Other values for single datasets, by name: `{"faced": {"ica": "none"}}`. Paper: none; its
    code treats five datasets apart."""

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in self.positive:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"need {name} > 0, got {value:g}")
        if self.scale_scope == "person" and self.amplitude == "robust_z":
            # A median of a person is no function of the medians of recordings.
            raise ValueError("need amplitude z for scale_scope person, got robust_z")
        if not self.max_excursion >= 0:
            raise ValueError(f"need max_excursion >= 0, got {self.max_excursion:g}")
        for name in self.shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"need {name} in [0, 1], got {getattr(self, name):g}")
        known = {f.name for f in fields(self)} - {"exceptions"}
        for dataset, changes in self.exceptions.items():
            if unknown := set(changes) - known:
                raise ValueError(
                    f"need fields of {type(self).__name__} in exceptions of {dataset}, "
                    f"got {', '.join(sorted(unknown))}"
                )
            self.for_dataset(dataset)

    def for_dataset(self, name: str) -> Self:
        """The recipe as it holds for one dataset: its exceptions applied, those of others gone."""
        return replace(self, **{**self.exceptions.get(name, {}), "exceptions": {}})

    def segment_s_of(self, card: Card) -> float:
        """Seconds of a segment of a dataset."""
        return card.segment_s if self.segment_s is None else self.segment_s


def _check_choices(recipe: Recipe) -> None:
    for name, hint in get_type_hints(type(recipe)).items():
        choices = get_args(hint)
        value = getattr(recipe, name, None)
        if choices and isinstance(choices[0], str) and value not in choices:
            raise ValueError(f"need {name} among {', '.join(choices)}; got {value!r}")
