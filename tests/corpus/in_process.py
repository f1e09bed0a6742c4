"""A build whose tasks run here, one after the other: no Ray."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from emoray.corpus.build import build as building
from emoray.corpus.build import check as checking
from emoray.vocabulary.schema import RecordingRef


@contextmanager
def in_process() -> Iterator[None]:
    """Until the end, `build` and `check` call their tasks themselves."""

    def over(
        function: Callable[[RecordingRef], dict[str, Any]],
        refs: Sequence[RecordingRef],
        *,
        here: bool = False,
    ) -> Generator[dict[str, Any], None, None]:
        yield from (function(ref) for ref in refs)

    with pytest.MonkeyPatch.context() as patch:
        for module in (building, checking):
            patch.setattr(module, "over_recordings", over)
            patch.setattr(module, "join_ray", lambda connect: None)
        yield
