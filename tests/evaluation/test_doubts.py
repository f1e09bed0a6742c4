"""What nobody knows is said beside a read-out too, and of weights that others published."""

from __future__ import annotations

from pathlib import Path

import pytest

from emoray.corpus.catalog import Catalog
from emoray.evaluation.doubts import NotApart, not_apart, of_held_out
from emoray.experiments.pretraining import held_out_doubts
from emoray.methods import get
from emoray.methods.baselines.method import Config
from emoray.methods.emod import config as emod
from emoray.runtime.config import to_dict
from emoray.training import execute
from emoray.training.data import open_data
from emoray.training.run import PUBLISHED, Origin, Run
from tests.corpora import Made, write_corpus
from tests.small_experiments import write_both

FAMILY = "people not known to be apart (SEED family)"


def prints(*recordings: str) -> dict[str, list[str]]:
    return {name: [f"signals of {name}"] for name in recordings}


def test_held_out_people_of_a_laboratory_may_have_trained_elsewhere() -> None:
    trained = {
        "deap": prints("deap-s01-v1"),
        "seed_iv": prints("seed_iv-s01-v1"),
        "seed_vii": prints("seed_vii-s01-v1"),
    }
    held_out = {"deap": prints("deap-s02-v1"), "seed_iv": prints("seed_iv-s02-v1"), "seed_vii": {}}
    assert of_held_out(trained, held_out) == [f"seed_iv: {FAMILY}; seed_vii trained"]
    assert of_held_out({**trained, "seed_vii": {}}, held_out) == []


def test_a_held_out_copy_of_a_recording_that_trained_is_named() -> None:
    trained = {"deap": prints("deap-s01-v1"), "amigos": prints("amigos-s01-v1")}
    copy = {"deap-s05-v1": ["signals of deap-s01-v1"], "deap-s06-v1": ["its own"]}
    assert of_held_out(trained, {"deap": copy}) == [
        "deap-s05-v1 is deap-s01-v1, which trained, under another name"
    ]


def test_clips_whose_numbers_coincide_are_named() -> None:
    assert not_apart("amigos", ["mahnob_hci", "deap"]) == (
        NotApart("clips", "AMIGOS, MAHNOB-HCI", ("mahnob_hci",)),
    )
    assert not_apart("deap", ["mahnob_hci", "seed_iv"]) == ()


def test_a_run_says_it_of_whom_it_holds_out(tmp_path: Path) -> None:
    """What the summary and its JSON carry."""
    made = (Made("seed_iv"), Made("seed_vii", channels=("T3", "O1")), Made("deap"))
    location = write_corpus(tmp_path, made)
    catalog = Catalog(str(location))
    opened = [catalog.dataset(name) for name in catalog.names]
    run = Run(
        method="emod",
        stage="pretrain",
        config=to_dict(emod.Config()),
        corpus=str(location),
        builds={folder: digest for one in opened for folder, digest in one.builds.items()},
        held_out={"seed_iv": ("01",), "deap": ("02",)},
    )
    found = open_data(run)
    assert held_out_doubts(found) == [f"seed_iv: {FAMILY}; seed_vii trained"]
    assert set(found.seen()["seed_iv"]) == {"02", "03"}
    assert {name for signals in found.signals().values() for name in signals} == {
        *(f"deap-s{n}-v1" for n in ("01", "03")),
        *(f"seed_iv-s{n}-v1" for n in ("02", "03")),
        *(f"seed_vii-s{n}-v1" for n in ("01", "02", "03")),
    }


@pytest.mark.parametrize(("dataset", "n"), [("seed_v", 1), ("faced", 0)])
def test_published_weights_that_know_the_laboratory_are_no_strangers(
    tmp_path: Path, dataset: str, n: int
) -> None:
    """LaBraM was pretrained on SEED and SEED-IV, and is tested on SEED-V."""
    weights = tmp_path / "labram.pth"
    weights.write_bytes(b"not looked into")
    config = Config(model="labram", weights=str(weights))
    write_both(tmp_path / "corpus", evaluated=(dataset,), pretrained=())
    named = get("baselines").STAGES["train"].published_weights(config)
    run = Run(
        method="baselines",
        stage="train",
        config=to_dict(config),
        corpus=str(tmp_path / "corpus"),
        builds=Catalog(str(tmp_path / "corpus")).dataset(dataset).builds,
        protocol="subjects_and_stimuli_apart",
        fold="1_of_3",
        target={"kind": "classes"},
        chosen_by="kappa",
        starts={PUBLISHED: Origin(named)},
    )
    past = execute.account_of(open_data(run), [], with_signals=False).before
    assert past.unaudited
    assert past.trained_on == ("seed", "seed_iv")
    assert [str(doubt) for doubt in not_apart(dataset, past.trained_on)] == [FAMILY] * n
