"""Pretrained weights of the baselines: read from a file, a folder or a hub, and put in place.

What a checkpoint says must fit the network that is built, name by name and shape by shape, but for
a head of other classes and for what a model's `Fit` tells: a wrong file is an error, never a row
that says "pretrained" and is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Names that `save_pretrained` of the hub's client gives; the first one found is read."""

_WRAPPERS = ("state_dict", "model")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_N_NAMED = 4


@dataclass(frozen=True, slots=True)
class Fit:
    """Where a checkpoint of a model may differ from the network built here."""

    fresh: tuple[str, ...] = ()
    """Beginnings of names. What is under one of them stays new as a whole where the checkpoint
    lacks it or has other shapes: the head, and what belongs to the pretraining's electrodes."""
    unused: tuple[str, ...] = ()
    """Beginnings of names that pretraining needs and the classifier does not."""
    first_rows: tuple[str, ...] = ()
    """Tables (1, N, D) of which shorter segments use the first rows."""


def is_hub_id(weights: str) -> bool:
    """Whether it reads like `owner/name` and not like a file."""
    path = Path(weights).expanduser()
    return (
        _HUB_ID.fullmatch(weights) is not None
        and path.suffix not in _SUFFIXES
        and not path.exists()
    )


def content(weights: str) -> str | None:
    """SHA-256 of the file that `read` would open; None of a hub's.

    Raises:
        ValueError: nothing is there.
    """
    if is_hub_id(weights):
        return None
    path = Path(weights).expanduser()
    files = [path / name for name in IN_FOLDER] if path.is_dir() else [path]
    for file in files:
        if file.is_file():
            with file.open("rb") as content_of:
                return hashlib.file_digest(content_of, "sha256").hexdigest()
    raise ValueError(f"need a file, a folder or a hub's owner/name as weights, got {weights!r}")


def read(weights: str, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name, on the CPU.

    Args:
        weights: a file (safetensors, or torch's with tensors only), a folder with one of
            `IN_FOLDER`, or a hub's `owner/name` where the network's class has `from_pretrained`.
        network: what they are for.

    Raises:
        ValueError: nothing is there, it cannot be read, or it holds something else.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        return _of_file(path)
    if is_hub_id(weights):
        return _of_hub(weights, network)
    raise ValueError(f"need a file, a folder or a hub's owner/name as weights, got {weights!r}")


def _of_folder(folder: Path) -> dict[str, Tensor]:
    for name in IN_FOLDER:
        if (folder / name).is_file():
            return _of_file(folder / name)
    raise ValueError(f"need {' or '.join(IN_FOLDER)} in {folder}, got neither")


def _of_file(path: Path) -> dict[str, Tensor]:
    return _tensors(_opened(lambda: _load(path), str(path)), str(path))


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # Tensors only: a checkpoint is somebody else's file, and a pickle would run what it says.
    return torch.load(path, map_location="cpu", weights_only=True)


def _of_hub(weights: str, network: nn.Module) -> dict[str, Tensor]:
    from_pretrained = getattr(type(network), "from_pretrained", None)
    if from_pretrained is None:
        raise ValueError(
            f"need a file or a folder as weights of {type(network).__name__}, which no hub has; "
            f"got {weights!r}"
        )
    return _tensors(_opened(lambda: from_pretrained(weights).state_dict(), weights), weights)


def _opened(load: Callable[[], object], where: str) -> object:
    """What `load` returns; whatever it raises (pickle, zip, client, network) becomes one error."""
    try:
        return load()
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"need readable weights, got {where}: {type(error).__name__}: {reason}"
        ) from error


def _tensors(found: object, where: str) -> dict[str, Tensor]:
    """The named tensors themselves, out of a wrapper if they are in one."""
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"need named tensors, got {where} with {type(found).__name__}")
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"need tensors, got {where} with {name} of {type(value).__name__}")
    return {str(name): value for name, value in found.items()}


def put(checkpoint: Mapping[str, Tensor], network: nn.Module, fit: Fit, where: str) -> None:
    """Load a checkpoint into a network; what `fit.fresh` names may keep its initial weights.

    Args:
        checkpoint: tensors by name.
        network: with its initial weights.
        fit: where the two may differ.
        where: the checkpoint's name, for the message.

    Raises:
        ValueError: names or shapes differ elsewhere; the message has some of them.
    """
    own = network.state_dict()
    given = {name: x for name, x in checkpoint.items() if not name.startswith(fit.unused)}
    for name in set(fit.first_rows) & own.keys() & given.keys():
        given[name] = given[name][:, : own[name].shape[1]]
    for prefix in fit.fresh:
        mine = {name: x.shape for name, x in own.items() if name.startswith(prefix)}
        theirs = {name: x.shape for name, x in given.items() if name.startswith(prefix)}
        if mine != theirs:
            given = {name: x for name, x in given.items() if name not in theirs}
            given |= {name: own[name] for name in mine}
    _require_same(own, given, type(network).__name__, where)
    network.load_state_dict(given)


def _require_same(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], model: str, where: str
) -> None:
    """Refuse names or shapes that differ.

    Raises:
        ValueError: they do.
    """
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    ]
    differences = [
        f"{len(names)} {word} ({_some(names)})"
        for word, names in (
            ("missing", own.keys() - given.keys()),
            ("unknown", given.keys() - own.keys()),
            ("of another shape", reshaped),
        )
        if names
    ]
    if differences:
        raise ValueError(f"need weights of this {model}, got {where}: {'; '.join(differences)}")


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_N_NAMED]) + (", ..." if len(ordered) > _N_NAMED else "")
