"""What the throw-away method's stages take over from what they start from.

Run by tests/methods/test_throwaway.py where the method is known; here nobody collects it.
"""

from __future__ import annotations

import pytest
import torch

from tests.methods import test_contract as contract
from tests.methods.test_contract import Case

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = tuple(case for case in contract.CASES if case.method == "throwaway" and case.starts)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_the_paper_gives_each_start() -> None:
    assert {case.stage: dict(case.starts) for case in CASES} == {
        "second": {"teacher": "first"},
        "third": {"teacher": "first", "student": "second"},
    }


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
