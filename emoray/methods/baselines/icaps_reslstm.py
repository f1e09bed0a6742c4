"""ICaps-ResLSTM: capsules for space, a residual LSTM for time.

Fan, Xie, Tao, Li, Pei, Li and Lv, "ICaps-ResLSTM: Improved capsule network and residual LSTM for
EEG emotion recognition", Biomedical Signal Processing and Control 87:105422 (2024). We found no
public code, and of the paper only the abstract was available to us. It says: an improved capsule
network is the spatial module; the ResLSTM, the temporal module, inherits the spatial module's flow
of information and completes it through residual connections. A public reading list adds the input,
one second of raw EEG (128 samples of 32 electrodes), and that a convolution makes capsules of it.
What was improved in the capsules, and every size, is unknown to us. So this is a model of the
paper's parts, not the paper's model, and its scores are not a check of the paper's.

| size                                    | value         | whence                                |
| --------------------------------------- | ------------- | ------------------------------------- |
| filters of the first convolution        | 256 of 9      | CapsNet (Sabour et al. 2017), 9 x 9   |
| primary capsules at a step              | 32 of 8       | CapsNet, by a convolution of length 9 |
| routed capsules at a step               | 8 of 16       | 16 is CapsNet's; 8 is ours            |
| rounds of routing                       | 3             | CapsNet                               |
| strides                                 | 4, then 5     | ours: 10 steps a second at 200 Hz     |
| layers of the ResLSTM, and their width  | 3 of 8 x 16   | ours: brings the count to Table 2's   |

The same group's later capsule network for EEG (LResCapsule 2024, code released) has the widths 8
and 16 and the three rounds as well. These sizes give 1.095 million parameters for FACED, where
Table 2 says 1.1.

Ours besides, and why:
- Convolutions see all electrodes at once and run along time: an array's order of electrodes is no
  neighbourhood, as it would be to a kernel laid over a map of electrodes by samples.
- Steps share the transformation from capsules to capsules, so that segments may have any length and
  a recurrent layer has a sequence to read.
- A linear head on the mean over steps, trained by cross-entropy as all methods here are; class
  capsules under a margin loss would give scores between 0 and 1.
- Batch normalisation after the first convolution: squashing flattens whatever is not of order one.

Shapes: B segments, C electrodes, T samples, S steps, N any leading number, I capsules in, J
capsules out, D width in, E width out, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emoray.methods.baselines.parts import check_segments, check_spec

NAME = "ICaps-ResLSTM"

N_FILTERS = 256
KERNEL = 9
STRIDES = (4, 5)
N_PRIMARY = 32
PRIMARY_WIDTH = 8
N_ROUTED = 8
ROUTED_WIDTH = 16
N_ROUNDS = 3
N_LSTM_LAYERS = 3
"""See the table above."""


class ICapsResLSTM(nn.Module):
    """Capsules routed at every step of a segment, then LSTM layers that add to them.

    Args:
        n_chans: C.
        n_outputs: K.
        n_times: T of the segments to come; any length will do.
        sfreq: Hz; sizes are in samples whatever it is.
        channels: names of the electrodes; any montage, in any order.

    Raises:
        ValueError: names and C disagree, or there are no samples.
    """

    def __init__(
        self, *, n_chans: int, n_outputs: int, n_times: int, sfreq: float, channels: Sequence[str]
    ) -> None:
        super().__init__()
        check_spec(NAME, n_chans=n_chans, n_times=n_times, channels=channels, shortest=1)
        self.n_chans = n_chans
        self.primary = nn.Sequential(
            nn.Conv1d(n_chans, N_FILTERS, KERNEL, STRIDES[0], padding=KERNEL // 2, bias=False),
            nn.BatchNorm1d(N_FILTERS),
            nn.ReLU(),
            nn.Conv1d(
                N_FILTERS, N_PRIMARY * PRIMARY_WIDTH, KERNEL, STRIDES[1], padding=KERNEL // 2
            ),
        )
        self.routing = Routing(N_PRIMARY, PRIMARY_WIDTH, N_ROUTED, ROUTED_WIDTH)
        width = N_ROUTED * ROUTED_WIDTH
        self.layers = nn.ModuleList(
            nn.LSTM(width, width, batch_first=True) for _ in range(N_LSTM_LAYERS)
        )
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Class scores (B, K) of segments (B, C, T).

        Raises:
            ValueError: the segments have another number of electrodes.
        """
        check_segments(NAME, x_BCT, n_chans=self.n_chans)
        h_BSF = self.capsules(x_BCT).flatten(2)
        for lstm in self.layers:
            h_BSF = h_BSF + lstm(h_BSF)[0]
        scores_BK: Tensor = self.head(h_BSF.mean(1))
        return scores_BK

    def capsules(self, x_BCT: Tensor) -> Tensor:
        """The spatial module: routed capsules of every step, (B, S, J, E)."""
        x_BSF = self.primary(x_BCT).transpose(1, 2)
        n_segments, n_steps, _ = x_BSF.shape
        primary_NID = squash(x_BSF.reshape(-1, N_PRIMARY, PRIMARY_WIDTH))
        routed_NJE: Tensor = self.routing(primary_NID)
        return routed_NJE.view(n_segments, n_steps, *routed_NJE.shape[1:])


class Routing(nn.Module):
    """A layer of capsules: every capsule below votes for every one above, and votes are routed.

    Args:
        n_in: I.
        width_in: D.
        n_out: J.
        width_out: E.
        n_rounds: of routing.
    """

    def __init__(
        self, n_in: int, width_in: int, n_out: int, width_out: int, n_rounds: int = N_ROUNDS
    ) -> None:
        super().__init__()
        # Votes of one capsule are then about as long as the capsule, which squashing needs.
        self.weight_IJDE = nn.Parameter(
            torch.randn(n_in, n_out, width_in, width_out) * width_in**-0.5
        )
        self.n_rounds = n_rounds

    def forward(self, x_NID: Tensor) -> Tensor:
        """Capsules above, (N, J, E), of capsules below, (N, I, D)."""
        votes_NIJE = torch.einsum("nid,ijde->nije", x_NID, self.weight_IJDE)
        return route(votes_NIJE, self.n_rounds)


def route(votes_NIJE: Tensor, n_rounds: int) -> Tensor:
    """Dynamic routing (Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", Procedure 1).

    A capsule above is the squashed sum of the votes for it, each weighted by its share; shares of
    a capsule below are the softmax over those above of how well its votes agreed so far.

    Args:
        votes_NIJE: what each of I capsules votes each of J should be.
        n_rounds: the first has equal shares.

    Returns:
        Capsules above, (N, J, E), each shorter than one. Gradients pass the last round's sum;
        shares count as constants, as in the same group's LResCapsule, which keeps the memory of
        one round.

    Raises:
        ValueError: `n_rounds` is less than one.
    """
    if n_rounds < 1:
        raise ValueError(f"need at least one round of routing, got {n_rounds}")
    fixed_NIJE = votes_NIJE.detach()
    agreement_NIJ = torch.zeros_like(fixed_NIJE[..., 0])
    for _ in range(n_rounds - 1):
        above_NJE = _gather(fixed_NIJE, agreement_NIJ)
        agreement_NIJ = agreement_NIJ + torch.einsum("nije,nje->nij", fixed_NIJE, above_NJE)
    return _gather(votes_NIJE, agreement_NIJ)


def _gather(votes_NIJE: Tensor, agreement_NIJ: Tensor) -> Tensor:
    """One round: shares from agreement, capsules from shares."""
    shares_NIJ = torch.softmax(agreement_NIJ, dim=2).to(votes_NIJE.dtype)
    return squash(torch.einsum("nij,nije->nje", shares_NIJ, votes_NIJE))


def squash(s: Tensor) -> Tensor:
    """Shorten vectors along the last axis from length l to l^2 / (1 + l^2), directions kept.

    Written s / (l + 1 / l), with 1e-12 under the root: neither a zero vector nor a long one makes
    values or gradients that are not finite.
    """
    length = torch.sqrt(s.square().sum(-1, keepdim=True) + 1e-12)
    return s / (length + 1 / length)
