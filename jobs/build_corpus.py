"""Build a corpus from publishers' files, or check what a folder of them holds.

    python jobs/build_corpus.py --check DATA            what is there, against the cards
    python jobs/build_corpus.py DATA --out CORPUS       make what is missing of the corpus

DATA has one folder per dataset, named as its publisher does (DEAP, SEED_IV, ...). A build that was
ended, however it was, goes on where it stood; a finished one does nothing. It uses all CPUs of this
machine or, where its folders are the same on all nodes (--shared-storage), of the Ray cluster.
"""

from __future__ import annotations

import tyro

from emoray.experiments.options import Build
from emoray.runtime import ending

if __name__ == "__main__":
    options = tyro.cli(
        Build,
        description=__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    from emoray.jobs.build_corpus import run  # loads Ray: seconds, once options are read

    ending.run_job(lambda: run(options))
