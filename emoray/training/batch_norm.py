"""Batch normalisation over the global batch, so that W workers take the step of one.

Shapes: B rows of one worker, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emoray.batches.distributed import sum_with_grad


class _Global(nn.modules.batchnorm._BatchNorm):
    """Statistics of all workers' rows while training; in evaluation what it is derived from."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, and let running statistics follow those of the global batch."""
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        n = sum_with_grad(x.new_full((1,), x.numel() / x.shape[1]))
        mean_C = sum_with_grad(x.sum(axes)) / n
        centred = x - mean_C.view(shape)
        variance_C = sum_with_grad((centred**2).sum(axes)) / n
        self._follow(mean_C.detach(), (variance_C * n / (n - 1).clamp(min=1)).detach())
        out = centred * torch.rsqrt(variance_C + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Running statistics, as torch keeps them: with the variance without bias."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None  # it comes with them
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        share = 1 / float(self.num_batches_tracked) if momentum is None else momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance_C.to(self.running_var.dtype), share)


class _Global1d(_Global, nn.BatchNorm1d):
    pass


class _Global2d(_Global, nn.BatchNorm2d):
    pass


class _Global3d(_Global, nn.BatchNorm3d):
    pass


_GLOBAL: dict[type, type] = {
    nn.BatchNorm1d: _Global1d,
    nn.BatchNorm2d: _Global2d,
    nn.BatchNorm3d: _Global3d,
}


def over_all_workers(module: nn.Module) -> nn.Module:
    """The same module, its batch normalisations over the global batch; parameters stay the same.

    Torch's SyncBatchNorm does this on GPUs alone.
    """
    for part in module.modules():
        if type(part) in _GLOBAL:
            part.__class__ = _GLOBAL[type(part)]
    return module
