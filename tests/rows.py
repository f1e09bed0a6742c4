"""Result rows that hold together, for tests; scores are computed by scikit-learn."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import harmonic_mean
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
)

from emoray.results.store import FORMAT, KEY_PARTS, ResultRow, key_of

Confusion = Sequence[Sequence[int]]
CONFUSION: Confusion = ((8, 1, 1), (2, 7, 1), (0, 3, 7))


def scores(confusion: Confusion) -> dict[str, float]:
    """Scores of a confusion matrix, from its segments one by one."""
    return dict(_scores(tuple(map(tuple, confusion))))


@cache
def _scores(confusion: tuple[tuple[int, ...], ...]) -> dict[str, float]:
    counts_KK = np.array(confusion)
    true_KK, predicted_KK = np.indices(counts_KK.shape)
    true_N = np.repeat(true_KK.ravel(), counts_KK.ravel())
    predicted_N = np.repeat(predicted_KK.ravel(), counts_KK.ravel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that do not occur
        bacc = float(balanced_accuracy_score(true_N, predicted_N))
        kappa = float(np.nan_to_num(cohen_kappa_score(true_N, predicted_N)))
        wf1 = float(f1_score(true_N, predicted_N, average="weighted", zero_division=0))
        acc = float(accuracy_score(true_N, predicted_N))
        f1 = float(f1_score(true_N, predicted_N, average="macro", zero_division=0))
        means = [
            float(mean(true_N, predicted_N, average="macro", zero_division=0))
            for mean in (precision_score, recall_score)
        ]
    found = {"bacc": bacc, "kappa": kappa, "wf1": wf1, "acc": acc, "f1": f1}
    return {**found, "f1_of_means": harmonic_mean(means)}


def fields(confusion: Confusion = CONFUSION, **changes: Any) -> dict[str, Any]:
    """A row's fields as plain data, with the scores of its confusion matrix and its key."""
    found = {
        "method": "emod",
        "stage": "finetune",
        "config": {"optimizer": {"learning_rate": 5e-4}, "epochs": 3, "head": "linear"},
        "dataset": "faced",
        "builds": {"faced-eeg-0d9cf00c654e": "0123"},
        "target": {"kind": "classes"},
        "protocol": "paper_same_stimuli",
        "fold": "0",
        "seed": 0,
        "starts": {},
        "chosen_by": "kappa",
        "code": "0.1.0+0123456789ab",
        "n_classes": len(confusion),
        "n_train": 80,
        "n_val": 20,
        "n_test": int(np.sum(confusion)),
        "scores": scores(confusion),
        "confusion": [list(counts) for counts in confusion],
        "val_score": 0.5,
        "best_epoch": 1,
        "n_epochs": 3,
        "audit": {"verdict": "same stimuli"},
        "n_parameters": 850_000,
        "n_head_parameters": 4_616,
        "seconds": 12.5,
        "segments_per_s": 640.0,
        "waiting": 0.02,
        "device": "cpu",
        "machine": {"torch": "2.11.0"},
        "rehearsal": False,
        "finished": "2026-01-02T03:04:05+00:00",
        "curves": {"train_loss": [1.1, 0.9, 0.8], "val_kappa": [0.1, 0.5, 0.4]},
        **changes,
    }
    return {"key": key_of(**{name: found[name] for name in KEY_PARTS}), **found}


def made_row(confusion: Confusion = CONFUSION, **changes: Any) -> ResultRow:
    """A row."""
    return ResultRow(**fields(confusion, **changes))


def text_of(row: Mapping[str, Any]) -> str:
    """A row's file with a checksum that is right, whatever the row holds."""
    said = json.dumps(row, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(said.encode()).hexdigest()
    return json.dumps({"format": FORMAT, "sha256": checksum, "row": row})
