"""Which datasets may have people or clips in common, though they number them on their own.

Stated where recordings were made at one institution with authors in common and no source tells
the people apart, or where the publishers' own names for clips coincide. All of it is suspicion:
the leakage audit says so beside a number, and refuses nothing for it.
"""

from __future__ import annotations

from emoray.vocabulary.schema import InCommon

SEED_FAMILY = InCommon(
    name="SEED family",
    datasets=("seed", "seed_iv", "seed_v", "seed_vii"),
    source="All four were recorded in one laboratory (BCMI, Shanghai Jiao Tong University), which "
    "publishes numbers instead of names for each on its own. The initials in the variables' names "
    "that public loaders quote coincide for 3 of 15 people between SEED and SEED-IV. Whether "
    "people took part in several is not known.",
)

TSINGHUA = InCommon(
    name="FACED, MDME",
    datasets=("faced", "mdme"),
    source="Both papers come from Tsinghua University and have D. Zhang among their authors (Chen "
    "et al. 2023, Yang et al. 2024). Neither says that its participants took no part in the other. "
    "Whether any did is not known.",
)

NUMBERED_FILMS = InCommon(
    name="AMIGOS, MAHNOB-HCI",
    datasets=("amigos", "mahnob_hci"),
    source="30, 58, 80 and 138 are numbers of videos in AMIGOS and of media files in MAHNOB-HCI. "
    "Whether they are the same films was not compared.",
)
