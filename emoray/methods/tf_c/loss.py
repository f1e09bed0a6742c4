"""TF-C's objective: views of a segment are alike, and so are its time and its frequency.

Source: Zhang et al., as the later form of their released code has it. Shapes: B segments of the
global batch, F features, D width of the space of both branches.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from emoray.methods.contrast import nt_xent


def contrasts(
    time: tuple[Tensor, Tensor, Tensor],
    frequency: tuple[Tensor, Tensor, Tensor],
    *,
    temperature: float,
) -> dict[str, Tensor]:
    """NT-Xent of cosine similarities: of views in time, of views in frequency, of both spaces.

    The earlier form of the code compares the third one with those of the other views, by a margin
    of 1; the later one computes that as well, and minimises the third one alone.

    Args:
        time: features of segments and of their other views, each (B, F), and the projection of the
            segments (B, D).
        frequency: the same of their spectra.
        temperature: tau, 0.2 in the paper's code.
    """
    pairs = {
        "time": (time[0], time[1]),
        "frequency": (frequency[0], frequency[1]),
        "consistency": (time[2], frequency[2]),
    }
    return {
        name: nt_xent(F.normalize(one, dim=1), F.normalize(two, dim=1), temperature=temperature)
        for name, (one, two) in pairs.items()
    }
