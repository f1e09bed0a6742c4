"""Figure 4: one dataset's segments laid out by an untrained and by a pretrained encoder.

Each map is kept under what it was made from, and made once.

Shapes: N segments of a map, D width of an embedding, 2 = (valence, arousal) or a point of the map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray
import torch

from emoray.batches.feeds import eligible_rows
from emoray.corpus.catalog import Segments, open_segments
from emoray.evaluation.embed import embed, evenly
from emoray.evaluation.maps import Map, tsne_map
from emoray.evaluation.readout import leave_one_subject_out
from emoray.experiments.schedule import Resources
from emoray.runtime.code import source_version
from emoray.runtime.config import digest
from emoray.runtime.storage import Storage
from emoray.training import checkpoint, driver
from emoray.training.data import open_data
from emoray.training.run import Run

AT_MOST = 2000
"""Segments of a map, spread evenly over people and clips: more make t-SNE slow and dots a blot."""

_DECIDES = tuple({f.__module__ for f in (embed, tsne_map, leave_one_subject_out)})
"""Modules that decide a map or what is read out beside it; the encoder's stand in the name of its
pretraining."""

ReadOuts = Mapping[str, tuple[float | None, float | None]]
"""Arm -> r of valence and of arousal."""


@dataclass(frozen=True)
class MapRequest:
    """What is to be laid out."""

    pretraining: Run
    """Of the encoder; it must have ended."""
    runs: str
    """Folder or URI of its folder."""
    builds: tuple[str, ...]
    """What is laid out, by folder: of one dataset the builds that the encoder reads."""
    store: str
    """Folder or URI of the maps."""
    seed: int = 0
    """Of the layout."""

    @property
    def key(self) -> str:
        """Of its files."""
        asked = (self.pretraining.key, *self.builds, self.seed, AT_MOST)
        return digest([*asked, source_version(_DECIDES, words=False)])


def make_maps(request: MapRequest, resources: Resources) -> tuple[dict[str, Map], ReadOuts]:
    """The maps of both arms and what a line reads from each arm's embeddings.

    Returns:
        `untrained` and `pretrained`, and for each the correlation of read and given valence and
        arousal of people whom the line was not fitted on.

    Raises:
        ValueError: no segment has valence and arousal.
    """
    storage = Storage.at(request.store)
    told = storage.read(f"{request.key}.json")
    if told is None:
        task = ray.remote(_make).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
        ray.get(task.remote(request, resources))
        told = storage.read(f"{request.key}.json")
    assert told is not None  # the task writes it last
    read_outs = {arm: (v, a) for arm, (v, a) in json.loads(told).items()}
    return {arm: Map.load(storage, _file(request, arm)) for arm in read_outs}, read_outs


def _file(request: MapRequest, arm: str) -> str:
    return f"{request.key}-{arm}.npz"


def _make(request: MapRequest, resources: Resources) -> None:
    """The task: embed, lay out, read out, write."""
    device = torch.device("cuda" if resources.gpus else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(resources.cpus)))
    (dataset,) = open_segments(request.pretraining.corpus, request.builds)
    rows_N = evenly(eligible_rows(dataset, ()), AT_MOST)
    stage = open_data(request.pretraining).stage()
    arms = {arm: stage.build() for arm in ("untrained", "pretrained")}
    own = Storage.at(request.runs).sub(request.pretraining.folder_name)
    with driver.local_checkpoint(own) as folder:
        checkpoint.load_model(folder, arms["pretrained"])
    storage = Storage.at(request.store)
    read_outs = {}
    for arm, module in arms.items():
        embeddings_ND = embed(module, dataset, rows_N, device=device).astype(np.float64)
        _map(request, dataset, rows_N, embeddings_ND, arm).save(storage, _file(request, arm))
        subjects = dataset.column("subject")[rows_N].tolist()
        read_outs[arm] = leave_one_subject_out(embeddings_ND, dataset.va_S2[rows_N], subjects)
    storage.write_bytes(f"{request.key}.json", json.dumps(read_outs).encode())


def _map(request: MapRequest, dataset: Segments, rows_N: Any, embeddings_ND: Any, arm: str) -> Map:
    return Map(
        points_N2=tsne_map(embeddings_ND, seed=request.seed),
        va_N2=dataset.va_S2[rows_N],
        subjects=tuple(cast("list[str]", dataset.column("subject")[rows_N].tolist())),
        name=f"{dataset.name}, {arm}",
    )
