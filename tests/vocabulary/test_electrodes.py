"""The electrode vocabulary: frozen, and every cap leads into it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray import datasets
from emoray.vocabulary import electrodes
from emoray.vocabulary.electrodes import ALIASES, EPOC_14, GENEVA_32, SEED_62, VOCABULARY
from emoray.vocabulary.schema import DataError

EMOD_CAPS = {
    "SEED": (SEED_62, 62),
    "Geneva": (GENEVA_32, 32),
    "EPOC": (EPOC_14, 14),
    "MDME": ("Fp1 Fp2 Fz F3 F4 F7 F8 Cz C3 C4 T3 T4 P3 P4 T5 T6 O1 O2".split(), 18),
    "FACED": (
        "Fp1 Fp2 Fz F3 F4 F7 F8 FC1 FC2 FC5 FC6 Cz C3 C4 T7 T8 CP1 CP2 CP5 CP6 Pz P3 P4 P7 P8 "
        "PO3 PO4 Oz O1 O2 A1 A2".split(),
        32,
    ),
}
"""The caps of EMOD's datasets as their publishers name the sites, and how many."""

N_FROZEN = 67
FROZEN = "85ceb470499c967e4802823049993da3d2d4def5388721cd2f92095ae836b9de"
"""Of the first `N_FROZEN` names, joined by blanks."""

names = st.sampled_from([*VOCABULARY, *ALIASES])


def test_the_vocabulary_never_changes() -> None:
    """Embedding rows of saved encoders are these places; a new site may only be appended."""
    joined = " ".join(VOCABULARY[:N_FROZEN])
    assert hashlib.sha256(joined.encode()).hexdigest() == FROZEN


def test_no_site_has_two_places_whatever_its_case() -> None:
    assert len({name.upper() for name in VOCABULARY}) == len(VOCABULARY)


def test_ids_are_unique_rows_of_emods_table_and_zero_stays_free() -> None:
    found = electrodes.ids(VOCABULARY)
    assert found == list(range(1, len(VOCABULARY) + 1))
    assert max(found) < electrodes.N_EMBEDDINGS == 72


@pytest.mark.parametrize(
    ("old", "new"),
    [("T3", "T7"), ("T4", "T8"), ("T5", "P7"), ("T6", "P8"), ("A1", "M1"), ("A2", "M2")],
)
def test_older_names_share_the_row_of_the_newer(old: str, new: str) -> None:
    assert electrodes.canonical(old) == new
    assert electrodes.ids([old.lower()]) == electrodes.ids([new])
    assert old not in VOCABULARY


def test_every_alias_is_tested_above() -> None:
    assert set(ALIASES) == {"T3", "T4", "T5", "T6", "A1", "A2"}


@pytest.mark.parametrize("cap", EMOD_CAPS)
def test_every_cap_has_a_row_of_its_own_for_each_site(cap: str) -> None:
    sites, count = EMOD_CAPS[cap]
    assert len(sites) == len(set(electrodes.ids(sites))) == count


def test_every_cards_channels_are_canonical_and_apart() -> None:
    for name in datasets.names():
        eeg = datasets.get(name).CARD.eeg
        channels = () if eeg is None else eeg.channels
        assert [electrodes.canonical(c, where=name) for c in channels] == list(channels)
        assert len(set(electrodes.ids(channels))) == len(channels), name


@pytest.mark.parametrize(
    ("decorated", "name"),
    [
        ("EEG T3-Pz", "T7"),
        ("EEG Fp1-REF", "Fp1"),
        ("EEG_FP2", "Fp2"),
        ("eeg fpz-le", "Fpz"),
        (" O1 ", "O1"),
        ("POZ", "POz"),
        ("Pz", "Pz"),
        ("Cz", "Cz"),
        ("EEG Pz-Pz", "Pz"),
        ("cb1", "CB1"),
        ("FC5 AVG", "FC5"),
    ],
)
def test_decorations_are_folded_away(decorated: str, name: str) -> None:
    assert electrodes.canonical(decorated) == name
    assert electrodes.is_electrode(decorated)


@given(
    name=names,
    fold=st.sampled_from([str.upper, str.lower, str.title, str]),
    before=st.sampled_from(["", " ", "EEG ", "eeg_", "EEG-"]),
    after=st.sampled_from(["", " ", "-REF", "-Pz", " ref", "_LE", "-CZ"]),
)
def test_canonical_names_stay_as_they_are_and_dressed_ones_lead_to_them(
    name: str, fold: object, before: str, after: str
) -> None:
    assert callable(fold)
    dressed = f"{before}{fold(name)}{after}"
    canonical = electrodes.canonical(dressed)
    assert canonical == ALIASES.get(name, name)
    assert electrodes.canonical(canonical) == canonical in VOCABULARY


@pytest.mark.parametrize(
    "name", ["", "EEG", "HEO", "VEOL", "EXG1", "Trigger", "Status", "X1", "CM", "ECG", "PO9", "T9"]
)
def test_what_is_no_electrode_is_named_with_its_file(name: str) -> None:
    assert not electrodes.is_electrode(name)
    with pytest.raises(DataError, match=r"^1_raw\.edf: need an electrode .*got '" + name + "'"):
        electrodes.canonical(name, where="1_raw.edf")


@given(st.text(max_size=12))
def test_any_text_is_either_an_electrode_or_refused(text: str) -> None:
    if electrodes.is_electrode(text):
        assert electrodes.canonical(text) in VOCABULARY
    else:
        with pytest.raises(DataError):
            electrodes.canonical(text)
