"""Electrode names: one frozen vocabulary for every cap, and the aliases that lead into it.

Ids are the rows of the model's electrode embedding, so the order below never changes: a new site
is appended. Id 0 is kept for "no electrode".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from emoray.vocabulary.schema import DataError

VOCABULARY: tuple[str, ...] = tuple(
    """
    Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8
    FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T7 C5 C3 C1 Cz C2 C4 C6 T8
    TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8
    PO7 PO5 PO3 POz PO4 PO6 PO8 O1 Oz O2 CB1 CB2 M1 M2
    """.split()
)
"""10-10 sites front to back, then SEED's two cerebellar sites and the mastoids."""

N_EMBEDDINGS = 72
"""Rows of EMOD's table (its code: `nn.Embedding(72, d)`); ids past the vocabulary are unused."""

ALIASES: dict[str, str] = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "A1": "M1", "A2": "M2"}
"""Older names of the same positions. Ear lobe and mastoid are 2 cm apart; they share a row."""

SEED_62: tuple[str, ...] = tuple(
    """
    Fp1 Fpz Fp2 AF3 AF4 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T7 C5 C3
    C1 Cz C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO5 PO3
    POz PO4 PO6 PO8 CB1 O1 Oz O2 CB2
    """.split()
)
"""Channel order of SEED, SEED-IV, SEED-V, SEED-VII, and of MPED without its mastoids."""

GENEVA_32: tuple[str, ...] = tuple(
    """
    Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6
    CP2 P4 P8 PO4 O2
    """.split()
)
"""Channel order of DEAP's preprocessed files, and the sites of MAHNOB-HCI."""

EPOC_14: tuple[str, ...] = tuple("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4".split())
"""Channel order of the Emotiv EPOC: DREAMER and AMIGOS."""

_BY_UPPER = {name.upper(): name for name in VOCABULARY} | ALIASES
_IDS = {name: i + 1 for i, name in enumerate(VOCABULARY)}
_DECORATION = re.compile(r"^EEG[ _-]*|[ _-]+(REF|LE|PZ|CZ|AVG)$", re.IGNORECASE)


def canonical(name: str, *, where: str = "channel list") -> str:
    """Name an electrode as the vocabulary does.

    Case, blanks, a leading `EEG ` and a trailing reference (`-Pz`, `-REF`) are folded away, and
    aliases resolved: `EEG T3-Pz` gives `T7`.

    Raises:
        DataError: no electrode of that name; `where` says in which file it stood.
    """
    bare = _DECORATION.sub("", name.strip()).strip()
    try:
        return _BY_UPPER[bare.upper()]
    except KeyError:
        raise DataError(f"{where}: need an electrode of the 10-10 system, got {name!r}") from None


def is_electrode(name: str) -> bool:
    """Whether `canonical` knows the name."""
    return _DECORATION.sub("", name.strip()).strip().upper() in _BY_UPPER


def ids(names: Iterable[str]) -> list[int]:
    """Rows of the embedding for canonical (or alias) names, each in [1, 67]."""
    return [_IDS[canonical(name)] for name in names]
