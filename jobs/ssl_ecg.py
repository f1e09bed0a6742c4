"""Train SSL-ECG once, to a classifier of emotions from ECG (Sarkar & Etemad).

    python jobs/ssl_ecg.py                                  a rehearsal, minutes
    python jobs/ssl_ecg.py --corpus DIR --dataset wesad     the paper's settings
    python jobs/ssl_ecg.py --corpus DIR --dataset dreamer --target arousal --set pretext.epochs=30

pretext: which of six transformations a segment went through, without labels; emotion: classes, on
the convolutions of the pretext. Every stage is of one fold's training part; the best epoch of the
last is chosen on its validation segments, and the test segments are scored once. The same command
goes on where it was killed and repeats no stage that has ended.
"""

from __future__ import annotations

import tyro

from emoray.experiments.options import Chain
from emoray.runtime import ending

if __name__ == "__main__":
    options = tyro.cli(Chain, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    print("Loading torch and Ray takes some seconds.", flush=True)
    from emoray.jobs.chain import run  # so it comes once options are read

    ending.run_job(lambda: run(options, "ssl_ecg"))
