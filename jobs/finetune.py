"""Train a method's classifier from a checkpoint and from scratch, and score both.

    python jobs/finetune.py emod                            a rehearsal from scratch, minutes
    python jobs/finetune.py emod --corpus DIR --checkpoint RUN --datasets faced     the paper's
    python jobs/finetune.py emod --corpus DIR --checkpoint DIR/step-00027800 --set finetune.head=mlp

RUN is the name of a pretraining run, or one of its step-... folders. Beside the pretrained weights
the same network is trained from scratch, with the same optimizer, folds and seeds. The best epoch
is chosen on the validation segments; the test segments are scored once. Runs that have a result
are not repeated; every dataset is scored under the paper's protocol and under safe ones.
"""

from __future__ import annotations

import tyro

from emoray.experiments.options import Finetune
from emoray.runtime import ending

if __name__ == "__main__":
    options = tyro.cli(Finetune, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    print("Loading torch and Ray takes some seconds.", flush=True)
    from emoray.jobs.finetune import run  # so it comes once options are read

    ending.run_job(lambda: run(options))
