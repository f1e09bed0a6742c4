"""Which faults of a run can pass, in which words, and how often they are borne."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest
import ray.train
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from emoray.training import checkpoint, faults
from emoray.training.faults import Patience, fault_of

FULL = OSError(errno.ENOSPC, "No space left on device")
AWAY = OSError("When reading information for key 'x': AWS Error NETWORK_CONNECTION")
DIED = ActorDiedError()


def passed_on(error: Exception) -> RayTaskError:
    """As Ray hands over what a task raised."""
    return RayTaskError("task", "Traceback ...", error).as_instanceof_cause()


@pytest.mark.parametrize(
    "error",
    [
        ray.train.WorkerGroupError("", {0: DIED}),
        ray.train.ControllerError(AWAY),
        ray.train.ControllerError(TimeoutError("no workers within 30 s")),
        DIED,
        ActorUnavailableError("", b"0" * 16),
        AWAY,
        OSError(errno.ESTALE, "Stale file handle"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        passed_on(AWAY),
        RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:4711"),
        torch.distributed.DistBackendError("NCCL error: remote process exited"),
    ],
)
def test_what_clusters_and_storage_throw_can_pass(error: Exception) -> None:
    assert fault_of(error).can_pass


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ray.train.ControllerError(FULL),
        passed_on(FULL),
        passed_on(ValueError("need SHA-256")),
        FloatingPointError("loss is inf at step 3"),
        checkpoint.CheckpointError("of another run"),
        torch.OutOfMemoryError("CUDA out of memory"),
        KeyError("a mistake of ours"),
    ],
)
def test_what_would_be_met_again_cannot(error: Exception) -> None:
    assert not fault_of(error).can_pass


@pytest.mark.parametrize("error", [passed_on(ValueError("one\ntwo")), DIED, AWAY, FULL])
def test_a_fault_is_told_in_one_line(error: Exception) -> None:
    words = fault_of(error, who="worker 1").words
    assert words.startswith("worker 1: ")
    assert "\n" not in words


def test_pauses_grow_until_it_is_given_up() -> None:
    patience = Patience(4, (1.0, 2.0, 5.0))
    assert [patience.pause_s(7) for _ in range(5)] == [1.0, 2.0, 5.0, 5.0, None]


def test_progress_between_two_faults_renews_the_patience() -> None:
    patience = Patience(2, (1.0, 2.0))
    assert [patience.pause_s(step) for step in (0, 0, 1, 1, 1)] == [1.0, 2.0, 1.0, 2.0, None]


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


def test_what_can_pass_is_tried_again_and_the_rest_rises() -> None:
    assert faults.persist(failing(AWAY, AWAY), most=2, pauses_s=(0.0,)) == "done"
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        faults.persist(failing(*[AWAY] * 3), most=2, pauses_s=(0.0,))
    with pytest.raises(OSError, match="No space left"):
        faults.persist(failing(FULL), most=2, pauses_s=(0.0,))


def test_a_thread_apart_hands_back_what_it_made_or_raised() -> None:
    assert faults.apart(threading.current_thread) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        faults.apart(lambda: 1 // 0)
