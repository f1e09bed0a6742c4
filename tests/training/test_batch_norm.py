"""Batch normalisation over the global batch: two workers take the step of one.

One process trains with torch's own layers, so that these are what ours are held against.
Shapes: B segments of the global batch, C channels, T samples, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches import distributed
from emoray.batches.batch import Batch
from emoray.batches.distributed import gather_in_order
from emoray.batches.sampling import ShuffledSegments
from emoray.methods.base import Inputs, Stage
from emoray.methods.settings import ClassifierConfig, OptimizerConfig
from emoray.training import loop
from emoray.training.batch_norm import over_all_workers
from emoray.training.optimizers import make_optimizer
from tests.groups import eeg_group
from tests.workers import Found, found_by

N_STEPS, N_SEGMENTS, N_CLASSES = 3, 9, 3
TOLERANCE = 1e-10
"""Relative to the largest value."""
CPU = torch.device("cpu")
CONFIG = ClassifierConfig(
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.05, momentum=0.9, clip_norm=0.5),
    precision="float64",
)
"""SGD, as AdamW would make steps of the rounding of gradients that are zero (a bias before a
normalisation)."""
NORMS: Mapping[str, Any] = {
    "1d": lambda: nn.BatchNorm1d(6),
    "1d over samples": lambda: nn.BatchNorm1d(6),
    "1d, mean of all steps": lambda: nn.BatchNorm1d(6, momentum=None),
    "1d, no weights": lambda: nn.BatchNorm1d(6, affine=False),
    "1d, batch statistics only": lambda: nn.BatchNorm1d(6, track_running_stats=False),
    "2d": lambda: nn.BatchNorm2d(6, momentum=0.3, eps=1e-3),
    "3d": lambda: nn.BatchNorm3d(6),
}
ROOTS: Mapping[str, tuple[type[nn.Module], int]] = {
    "1d over samples": (nn.Conv1d, 1),
    "2d": (nn.Conv2d, 2),
    "3d": (nn.Conv3d, 3),
}
"""What comes before a normalisation, and how many axes it runs over; else a linear map."""


class Small(nn.Module):
    """A layer, its normalisation and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        root, self.n_axes = ROOTS.get(kind, (nn.Linear, 0))
        self.root = root(4, 6, 1) if self.n_axes else root(4 * 8, 6)
        self.norm = NORMS[kind]()
        self.head = nn.Linear(6, N_CLASSES)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Class scores (B, K)."""
        shape = (*x_BCT.shape[:2], *{1: (8,), 2: (4, 2), 3: (2, 2, 2)}.get(self.n_axes, ()))
        h = self.norm(self.root(x_BCT.view(shape) if self.n_axes else x_BCT.flatten(1)))
        scores_BK: Tensor = self.head(torch.tanh(h).flatten(2).mean(2) if self.n_axes else h.tanh())
        return scores_BK


class Classifying(Stage):
    """Cross-entropy of the global batch."""

    config_type = ClassifierConfig
    target = "label"

    def __init__(self, kind: str) -> None:
        super().__init__(CONFIG, Inputs(), {})
        self.kind = kind

    @classmethod
    def rehearsal(cls) -> ClassifierConfig:
        return CONFIG

    @property
    def sampling(self) -> ShuffledSegments:
        return ShuffledSegments(N_SEGMENTS)

    def build(self) -> nn.Module:
        torch.manual_seed(3)
        return Small(self.kind)

    def losses(self, module: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        scores_BK = module(batch.groups[0]["eeg"].x_BCT)
        scores_BK, label_B = gather_in_order(batch.positions_B, scores_BK, batch["label"])
        return {"cross_entropy": F.cross_entropy(scores_BK, label_B)}


def own(step: int) -> Batch:
    """This worker's share: of two workers, four segments and five."""
    generator = torch.Generator().manual_seed(step)
    x_BCT = torch.randn(N_SEGMENTS, 4, 8, generator=generator, dtype=torch.float64) * 3 + 2
    n, r = distributed.world_size(), distributed.rank()
    mine_B = torch.arange(N_SEGMENTS)[N_SEGMENTS * r // n : N_SEGMENTS * (r + 1) // n]
    group = eeg_group(x_BCT[mine_B], ("Fz", "Cz", "Pz", "Oz"), 8.0, mine_B)
    return Batch(step, (group,), {"label": mine_B % N_CLASSES})


def train(kind: str) -> dict[str, Tensor]:
    stage = Classifying(kind)
    module = stage.build().double()
    if distributed.world_size() > 1:
        over_all_workers(module)
    parallel, optimizer = loop.in_parallel(module, CPU), make_optimizer(stage.optimizer, module)
    losses, norms, gradients = [], [], []
    for step in range(N_STEPS):
        found, norm = loop.take_step(stage, parallel, optimizer, own(step), 0.05)
        losses.append(found["loss"])
        norms.append(norm)
        gradients.append(flat({name: p.grad for name, p in module.named_parameters()}))
    module.eval()
    scores_BK = module(own(0).groups[0]["eeg"].x_BCT).detach()
    results = {
        "losses": torch.stack(losses),
        "norms": torch.stack(norms),
        "gradients": torch.stack(gradients),
        "weights": flat(dict(module.named_parameters())),
        "statistics": flat(dict(module.named_buffers())),
        "scores in evaluation": distributed.gather_with_grad(scores_BK),
    }
    return {f"{kind}: {name}": tensor for name, tensor in results.items()}


def flat(tensors: Mapping[str, Tensor | None]) -> Tensor:
    found = [t.detach().double().flatten() for t in tensors.values() if t is not None]
    return torch.cat([torch.zeros(1).double(), *found])


def everything() -> dict[str, Tensor]:
    return {name: tensor for kind in NORMS for name, tensor in train(kind).items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return found_by(1, tmp_path_factory.mktemp("alone"), everything)[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_by(2, tmp_path_factory.mktemp("together"), everything)


@pytest.mark.parametrize(
    "what",
    ["losses", "norms", "gradients", "weights", "statistics", "scores in evaluation"],
)
@pytest.mark.parametrize("kind", NORMS)
def test_two_workers_take_the_step_of_one(
    kind: str, what: str, together: Found, alone: dict[str, Tensor]
) -> None:
    want = alone[f"{kind}: {what}"]
    for found in together:
        got = found[f"{kind}: {what}"]
        assert got.shape == want.shape
        assert (got - want).abs().max() <= TOLERANCE * want.abs().max()
        assert torch.equal(got, together[0][f"{kind}: {what}"])


def test_the_comparison_sees_statistics_of_each_workers_share(
    together: Found, alone: dict[str, Tensor]
) -> None:
    """Equality above is no accident: normalised by itself, a share has another loss."""
    stage = Classifying("1d")
    share = own(0).groups[0]["eeg"].x_BCT[:4]
    module = stage.build().double()
    apart_BK = module(share)
    whole_BK = module(own(0).groups[0]["eeg"].x_BCT)[:4]
    assert (apart_BK - whole_BK).abs().max() > 1e-3


@pytest.mark.parametrize("kind", NORMS)
def test_states_have_the_names_and_values_that_torch_gives_them(kind: str) -> None:
    plain, ours = Small(kind), over_all_workers(Small(kind))
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in plain.named_parameters()]
    ours.load_state_dict(plain.state_dict())
    x_BCT = torch.randn(5, 4, 8)
    for trained in (plain, ours):
        trained.train()(x_BCT)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.eval()(x_BCT), plain.eval()(x_BCT), rtol=1e-4, atol=1e-5)


def test_parameters_stay_the_same_objects_and_other_layers_what_they_are() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LayerNorm(6))
    before = [id(parameter) for parameter in module.parameters()]
    assert over_all_workers(module) is module
    assert [id(parameter) for parameter in module.parameters()] == before
    assert isinstance(module[1], nn.BatchNorm1d)
    assert type(module[1]) is not nn.BatchNorm1d
    assert [type(module[i]) for i in (0, 2)] == [nn.Linear, nn.LayerNorm]
