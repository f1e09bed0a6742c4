"""A method that is one folder: known, readable, and held to the contract of every stage.

What becomes of it in a table is in tests/experiments/test_throwaway_table.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.ecg_only import NAME as DATASET
from tests.throwaway_checkout import FILES, NAME, REPO, ROOMS, Checkout, make

STAGES = ("first", "second", "third", "ecg_only")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make(tmp_path_factory.mktemp("checkout"))


def test_its_folder_and_one_file_are_all_that_is_new(checkout: Checkout) -> None:
    """Every other file is the project's."""

    def files(root: Path) -> dict[str, bytes]:
        found = [path for room in ROOMS for path in (root / room).rglob("*")]
        kept = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
        named = [root / name for name in FILES]
        return {str(path.relative_to(root)): path.read_bytes() for path in (*kept, *named)}

    before, after = files(REPO), files(checkout.root)
    assert {name: content for name, content in after.items() if name in before} == before
    assert set(after) - set(before) == {
        f"emoray/datasets/{DATASET}.py",
        *(f"emoray/methods/{NAME}/{name}" for name in ("__init__.py", "method.py", "paper.toml")),
    }


ASKED = """
import json
from dataclasses import asdict

import emoray
from emoray import datasets, methods
from emoray.experiments import options
from emoray.results import published

paper = published.load("throwaway")
print(json.dumps({
    "package": emoray.__file__,
    "datasets": datasets.names(),
    "methods": methods.names(),
    "stages": list(methods.get("throwaway").STAGES),
    "papers": options.papers(),
    "pretraining": paper.pretraining,
    "tables": {
        table.name: {
            "evaluation": [
                [e.dataset, e.protocol, e.target.to_plain(), e.metrics, e.chosen_by]
                for e in table.evaluation
            ],
            "rows": {row.name: [asdict(s) for s in row.reproduce.stages] for row in table.rows},
        }
        for table in paper.tables.values()
    },
}))
"""


def test_it_is_known_and_its_paper_is_read(checkout: Checkout) -> None:
    found = json.loads(checkout.said("-c", ASKED))
    assert found["package"] == str(checkout.root / "emoray" / "__init__.py")
    assert DATASET in found["datasets"]
    assert NAME in found["methods"]
    assert found["stages"] == list(STAGES)
    assert found["papers"][NAME] == ["table1", "table2"]
    assert found["pretraining"] == ["dreamer"]
    table = found["tables"]["table_1"]
    target = {"kind": "cut", "rating": "valence", "above": 3.0}
    assert table["evaluation"] == [
        ["dreamer", "subjects_apart_same_stimuli", target, ["acc", "auc"], "auc"]
    ]
    (scratch,) = table["rows"]["From scratch"]
    assert (scratch["stage"], scratch["starts"]) == ("third", {})
    starts = [(stage["stage"], stage["starts"]) for stage in table["rows"]["Throw-away"]]
    assert starts == [
        ("first", {}),
        ("second", {"teacher": "of_everybody"}),
        ("third", {"teacher": "of_everybody", "student": "of_the_fold"}),
    ]
    (alone,) = found["tables"]["table_2"]["rows"]["ECG alone"]
    assert alone["stage"] == "ecg_only"


def passed(said: str) -> int:
    (n,) = re.findall(r"(\d+) passed", said)
    assert "failed" not in said
    return int(n)


PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_its_stages_keep_the_contract_of_all_stages(checkout: Checkout) -> None:
    words = (*PYTEST, "tests/methods/test_contract.py", "-k", f"{NAME} or stage")
    assert passed(checkout.said(*words)) >= 7 * (len(STAGES) + 2)  # two with what they start from


@pytest.mark.slow
def test_its_stages_begin_with_what_they_start_from(checkout: Checkout) -> None:
    assert passed(checkout.said(*PYTEST, "tests/throwaway_starts.py")) == 3


@pytest.mark.slow
def test_the_house_has_room_for_it(checkout: Checkout) -> None:
    assert passed(checkout.said(*PYTEST, "tests/test_architecture.py")) > 5
