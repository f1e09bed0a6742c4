"""Reproduce a table or figure of a paper: published numbers and ours side by side.

    python jobs/reproduce.py emod table3                     a rehearsal, on signals of a program
    python jobs/reproduce.py emod table3 --corpus DIR --dry-run         what is missing, how long
    python jobs/reproduce.py emod table2 --corpus DIR --workers 4 --gpus-per-run 0.25

table2: EMOD and ten other models. table3: the pretraining arms. figure3: parts of the model left
out. figure4: embeddings of DEAP laid out by t-SNE, untrained beside pretrained. alignment figure2:
features of ECG beside those of EEG, before and after the alignment.
Only runs without a result are done; kill it and start it again at will. Every dataset is evaluated
by the paper's protocol and beside it by ones that keep subjects, stimuli or both apart.
"""

from __future__ import annotations

import tyro

from emoray.experiments.options import Reproduce
from emoray.runtime import ending

if __name__ == "__main__":
    options = tyro.cli(Reproduce, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    print("Loading torch and Ray takes some seconds.", flush=True)
    from emoray.jobs.reproduce import run  # so it comes once options are read

    ending.run_job(lambda: run(options))
