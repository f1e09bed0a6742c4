"""Fine-tune EMOD's encoder for one dataset's classes and score it on held-out segments.

    python jobs/finetune_emod.py                            a rehearsal from scratch, minutes
    python jobs/finetune_emod.py --corpus DIR --checkpoint RUN --datasets faced     the paper's
    python jobs/finetune_emod.py --corpus DIR --checkpoint DIR/step-00027800 --head mlp

RUN is the name of a pretraining run, or one of its step-... folders. Beside the pretrained encoder
the same network is trained from scratch, with the same optimizer, folds and seeds. The best epoch
is chosen by kappa on the validation segments; the test segments are scored once. Runs that have a
result are not repeated; every dataset is scored under the paper's protocol and under safe ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from emoray.experiments.options import Finetune, FinetuneSettings
from emoray.methods.emod.config import rehearsal_finetune_config
from emoray.runtime import ending
from emoray.runtime.config import from_dict, to_dict


def _defaults(words: Sequence[str]) -> Finetune:
    """The paper's settings, or those of a rehearsal where there is no corpus to train on."""
    if {word.partition("=")[0] for word in words} & {"--corpus", "--help", "-h"}:
        return Finetune()
    return Finetune(emod=from_dict(FinetuneSettings, to_dict(rehearsal_finetune_config())))


if __name__ == "__main__":
    options = tyro.cli(
        Finetune,
        default=_defaults(sys.argv[1:]),
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    print("Loading torch and Ray takes some seconds.", flush=True)
    from emoray.jobs.finetune_emod import run  # so it comes once options are read

    ending.run_job(lambda: run(options))
