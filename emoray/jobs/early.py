"""What a job does before all that it works with is loaded: Ray's processes start meanwhile."""

from __future__ import annotations

import importlib
import threading

from emoray.batches.sampling import check_workers
from emoray.jobs.pretrain_options import Pretrain
from emoray.runtime import cluster


def start(options: Pretrain) -> cluster.WorkerDemand | None:
    """Join or start Ray while torch is loaded beside it; the job then finds both there.

    Ray is mostly waited for, torch is mostly work: together they take little more than one of them.
    Only torch is loaded in a thread of its own, because it shares no module with Ray.

    Returns:
        The workers, with the CPUs of each. None, and nothing is done, for a run that may have begun
        already: what it needs stands in its folder, which takes more than this room to read.

    Raises:
        ValueError: the workers or the storage asked for cannot be had.
        ConnectionError: nothing answers at the address, or it refuses us.
    """
    if options.resume is not None or options.name is not None:
        return None
    demand = _demand(options)
    check_workers(demand.n_workers, options.emod.rounds_per_step)
    cluster.storage_root(options.storage, shared=options.shared_storage)
    loading = threading.Thread(target=importlib.import_module, args=("torch",), daemon=True)
    loading.start()
    try:
        return cluster.connect(address=options.address, workers=demand)
    finally:
        loading.join()


def _demand(options: Pretrain) -> cluster.WorkerDemand:
    """The workers of a run that nobody has started yet."""
    n_workers = 1 if options.workers is None else options.workers
    return cluster.WorkerDemand(
        n_workers, options.cpus_per_worker or 0.0, options.gpus_per_worker or 0.0
    )
