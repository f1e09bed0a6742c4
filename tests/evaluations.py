"""What EMOD's `paper.toml` says of its evaluation, by dataset."""

from __future__ import annotations

from emoray.results import published
from emoray.results.paper import Evaluation

EMOD = published.load("emod")
BY_NAME: dict[str, Evaluation] = {found.name: found for found in EMOD.evaluation}


def protocols_of(dataset: str) -> tuple[str, ...]:
    """The paper's first, then safer ones."""
    return BY_NAME[dataset].protocols


def paper_protocol(dataset: str) -> str:
    """The one behind the published numbers."""
    return BY_NAME[dataset].protocol
