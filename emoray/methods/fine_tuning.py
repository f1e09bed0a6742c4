"""Classifiers on an encoder that a stage of the same method has pretrained, all of it trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

from torch import nn

from emoray.methods.base import Inputs, Start
from emoray.methods.classification import Classification
from emoray.methods.settings import ClassifierConfig
from emoray.runtime.config import from_dict, to_dict


class FineTuning(Classification):
    """Classes on an encoder; without a start all is trained from scratch.

    Those derived from it say what is built. The start's module has its encoder as `encoder`.
    """

    may_start_from = ("encoder",)
    words: ClassVar[str]
    """The method, as its paper writes it."""

    def __init__(
        self, config: ClassifierConfig, inputs: Inputs, starts: Mapping[str, Start]
    ) -> None:
        super().__init__(config, inputs, starts)
        if "encoder" in starts:
            self._check_same(config, starts["encoder"].config)

    @classmethod
    def following(cls, config: Any, starts: Mapping[str, Mapping[str, Any]]) -> Any:
        """With the encoder that the checkpoint holds."""
        if "encoder" not in starts:
            return config
        stored = cls._stored(config, starts["encoder"])
        return replace(config, encoder=from_dict(type(config.encoder), stored))

    @abstractmethod
    def network(self) -> nn.Module:
        """Encoder and head with weights from torch's generator; the encoder is its `encoder`."""

    def build(self) -> nn.Module:
        """Encoder, with the pretrained weights where there are any, and a new head."""
        with self.seeded():
            module = self.network()
        if "encoder" in self.starts:
            encoder = module.get_submodule("encoder")
            encoder.load_state_dict(self.starts["encoder"].part("encoder"))
        return module

    @classmethod
    def _stored(cls, config: Any, trained: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings of the start's encoder.

        Raises:
            ValueError: it is not one of this method.
        """
        stored: Mapping[str, Any] = trained.get("encoder", {})
        if set(stored) != {f.name for f in fields(config.encoder)}:
            raise ValueError(f"need a checkpoint of {cls.words}, got another")
        return stored

    @classmethod
    def _check_same(cls, config: Any, trained: Mapping[str, Any]) -> None:
        """Refuse weights of another architecture.

        Raises:
            ValueError: names the settings that differ.
        """
        stored = cls._stored(config, trained)
        different = [
            f"encoder.{name} {value!r} instead of {stored[name]!r}"
            for name, value in to_dict(config.encoder).items()
            if stored[name] != value
        ]
        if different:
            raise ValueError(
                "need the encoder that the checkpoint was trained with, got " + ", ".join(different)
            )
