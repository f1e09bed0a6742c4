"""Two streams beside each other before and after a stage has drawn one to the other, kept by key.

    a run of a stage on a fold -> its test segments -> the module as built, and with its weights
        -> features of both streams -> cosines, and the first stream's features in the plane

Shapes: N segments shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from emoray.evaluation.maps import tsne_map
from emoray.evaluation.similarity import Beside, by_person, cosines, paired_features
from emoray.experiments.schedule import Resources
from emoray.runtime.code import source_version
from emoray.runtime.config import digest
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.data import RunData, open_data
from emoray.training.execute import starts_of
from emoray.training.run import Run

AT_MOST = 300
"""Segments shown, spread evenly over people and clips: of more, a matrix's cells are finer than
print. Not in the paper."""
ARMS = ("without", "trained")
"""The module as it is built, with what it starts from, and with its weights."""

_DECIDES = tuple({f.__module__ for f in (paired_features, tsne_map)})
"""Modules that decide what is shown; those of the stage stand in its run's key."""


@dataclass(frozen=True)
class SimilarityRequest:
    """What is to be shown."""

    run: Run
    """Of a stage that offers `paired`, on a fold; it must have ended."""
    runs: str
    """Folder or URI of its folder."""
    store: str
    """Folder or URI of what comes out."""

    @property
    def key(self) -> str:
        """Of its files."""
        return digest([self.run.key, AT_MOST, source_version(_DECIDES, words=False)])

    def file(self, arm: str) -> str:
        """Of one arm."""
        return f"{self.key}-{arm}.npz"


def make_similarities(
    requests: Sequence[SimilarityRequest], resources: Resources
) -> list[Mapping[str, Beside]]:
    """Both arms of each request; what is there already is read.

    Raises:
        ValueError: the stage draws no stream to another.
    """
    task = ray.remote(_make).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
    ray.get([task.remote(one, resources) for one in requests if not _is_there(one)])
    return [
        {arm: Beside.load(Storage.at(one.store), one.file(arm)) for arm in ARMS} for one in requests
    ]


def _is_there(request: SimilarityRequest) -> bool:
    return request.file(ARMS[-1]) in Storage.at(request.store).files()


def _make(request: SimilarityRequest, resources: Resources) -> None:
    """The task: both arms, the trained one last."""
    device = torch.device("cuda" if resources.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(resources.cpus)))
    run = request.run
    found, storage = open_data(run), Storage.at(request.store)
    starts, _ = starts_of(run)
    stage = found.stage(starts)
    modules = {arm: stage.build() for arm in ARMS}
    with driver.local_checkpoint(Storage.at(request.runs).sub(run.folder_name)) as folder:
        checkpoint.load_model(folder, modules["trained"])
    for arm in ARMS:
        _beside(found, stage, modules[arm], device).save(storage, request.file(arm))


def _beside(found: RunData, stage: Any, module: torch.nn.Module, device: torch.device) -> Beside:
    assert found.fold is not None  # of a run on a fold, which has labels too
    assert found.labels is not None
    rows_N = by_person(found.fold.test_N, found.dataset.column("subject"), AT_MOST)
    query_NZ, key_NZ = paired_features(stage, module, found.dataset, rows_N, device=device)
    return Beside(
        similarity_NN=cosines(query_NZ, key_NZ).astype(np.float32),
        points_N2=tsne_map(query_NZ, seed=found.run.seed),
        label_N=found.labels[found.dataset.name][rows_N],
        subjects=tuple(map(str, found.dataset.column("subject")[rows_N])),
    )
