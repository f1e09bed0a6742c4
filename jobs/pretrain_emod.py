"""Pretrain EMOD's encoder by valence-arousal guided contrast (Chen et al., EMOD).

    python jobs/pretrain_emod.py                        a rehearsal, minutes on a laptop
    python jobs/pretrain_emod.py --corpus DIR --workers 4 --gpus-per-worker 1     the paper's run
    python jobs/pretrain_emod.py --resume NAME          go on with an interrupted run

Without --corpus it writes rehearsal data (signals of a program, recorded from nobody) in the
publishers' formats, builds a corpus from them once, and pretrains a small encoder. The paper's run
is 100 epochs of 278 steps of 288 segments and took 20 hours on four RTX 3090; all segments of DEAP
and a fifth of the subjects held out make about 233 steps of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace

import tyro

from emoray.jobs.pretrain_options import PAPER, Pretrain, option
from emoray.methods.emod.config import rehearsal_config
from emoray.runtime import ending
from emoray.runtime.config import dotted_values


def _defaults(words: Sequence[str]) -> Pretrain:
    """The paper's settings, or those of a rehearsal where there is no corpus to train on."""
    if {word.partition("=")[0] for word in words} & {"--corpus", "--resume", "--help", "-h"}:
        return PAPER
    asked = re.search(r"--workers[= ](\d+)", " ".join(words))
    return replace(PAPER, emod=rehearsal_config(max(1, int(asked[1])) if asked else 1))


def _rehearsal_words() -> str:
    """What a rehearsal sets otherwise, as options."""
    rehearsal = dotted_values(rehearsal_config())
    return " ".join(
        f"{option(name)} {value}"
        for name, value in rehearsal.items()
        if dotted_values(PAPER.emod)[name] != value
    )


def _run(options: Pretrain) -> None:
    # These take seconds, so they come once options are read; and the second while Ray starts.
    from emoray.jobs import early

    workers = early.start(options)
    from emoray.jobs.pretrain_emod import run

    run(options, workers)


if __name__ == "__main__":
    options = tyro.cli(
        Pretrain,
        default=_defaults(sys.argv[1:]),
        description=f"{__doc__}\nWithout --corpus the defaults are {_rehearsal_words()}.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    print("Starting Ray and loading torch takes some seconds.", flush=True)
    ending.run_job(lambda: _run(options))
