"""Train a classifier of emotions from ECG that has learned from EEG what ECG alone does not show.

    python jobs/align_ecg.py                                    a rehearsal, minutes
    python jobs/align_ecg.py --corpus DIR --dataset dreamer     the paper's settings
    python jobs/align_ecg.py --corpus DIR --target valence --set align.tau_patch=0.2

reconstruct: an encoder of EEG, by what it was not shown; teach: the same, by classes; align: an
encoder of ECG, drawn to the teacher on segments of the same instants; classify: classes, from ECG
alone. Every stage is of one fold's training part; the best epoch of the last is chosen on its
validation segments, and the test segments are scored once. The same command goes on where it was
killed and repeats no stage that has ended.
"""

from __future__ import annotations

import tyro

from emoray.experiments.options import Chain
from emoray.runtime import ending

if __name__ == "__main__":
    options = tyro.cli(Chain, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    print("Loading torch and Ray takes some seconds.", flush=True)
    from emoray.jobs.chain import run  # so it comes once options are read

    ending.run_job(lambda: run(options, "alignment"))
