"""The contract of stages, asked of the throw-away method's with what they start from.

Run by tests/methods/test_throwaway.py where the method is known; here nobody collects it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.methods import test_contract as contract
from tests.methods.test_contract import Case
from tests.workers import found_by

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = (
    Case("throwaway", "second", starts={"teacher": "first"}),
    Case("throwaway", "third", starts={"teacher": "first"}),
    Case("throwaway", "third", starts={"teacher": "first", "student": "second"}),
)
CLAIMS = (
    contract.test_it_is_built_from_its_rehearsals_settings_the_same_for_the_same_seed,
    contract.test_its_losses_are_named_finite_scalars,
    contract.test_gradients_are_exactly_where_something_learns,
    contract.test_a_step_in_any_precision_leaves_finite_weights,
    contract.test_a_run_picked_up_after_two_of_four_steps_ends_with_the_same_weights,
)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_it_holds_with_starts_as_well(claim: Callable[[Case], None], case: Case) -> None:
    claim(case)


@every_case
def test_what_it_starts_from_is_in_it(case: Case) -> None:
    mine = case.kind(
        contract.config_of(contract.stage_of(case)),
        contract.inputs_of(case.kind),
        contract.starts_of(case),
    ).build()
    scratch = contract.stage_of(Case(case.method, case.stage)).build()
    weights, before = mine.state_dict(), scratch.state_dict()
    moved = {name for name in weights if not torch.equal(weights[name], before[name])}
    places = {
        ("second", "teacher"): ("teacher", "encoder"),
        ("third", "teacher"): ("encoders.eeg", "encoder"),
        ("third", "student"): ("encoders.ecg", "student"),
    }
    expected = set()
    for role, start in contract.starts_of(case).items():
        here, there = places[case.stage, role]
        for name, given in start.part(there).items():
            assert torch.equal(weights[f"{here}.{name}"], given)
            expected.add(f"{here}.{name}")
    assert moved == expected


@dataclass(frozen=True)
class Stepped:
    """A few steps of every case, by case and quantity."""

    def __call__(self) -> dict[str, dict[str, torch.Tensor]]:
        return {str(case): contract.stepped(case) for case in CASES}


def test_two_workers_take_the_step_of_one(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    (want,) = found_by(1, alone, Stepped())
    for found in found_by(2, together, Stepped()):
        for case in map(str, CASES):
            for name, expected in want[case].items():
                difference = (found[case][name] - expected).abs().max()
                assert difference <= contract.TOLERANCE * expected.abs().max(), (case, name)
