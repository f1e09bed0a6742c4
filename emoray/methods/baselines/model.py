"""The ten networks that EMOD is compared with, built by name and fed alike.

Seven are braindecode's (BSD 3-clause; its models under non-commercial licences are others), three
are written here. Settings are those of each paper or of its released code where the two say them;
each builder names what is ours.

Rates and lengths. BIOT, LaBraM and CBraMod were made for 200 Hz, the latter two for whole patches
of 200 samples: other rates are resampled ahead of them (torchaudio's windowed sinc), and a last
patch that is not full is filled with zeros rather than dropped. The others take any rate: EEGNet's,
TSception's and ContraWR's kernels follow it, EEGConformer's and those written here are in samples.
All ten build for segments of one second. Amplitudes are the corpus's; LaBraM and CBraMod were
pretrained on units of 100 microvolts, which a corpus of robust z-scores is not.

Numbers of parameters beside Table 2's, and why some differ: `tests/methods/test_baselines.py`.

Shapes: B segments, C electrodes, T samples, L samples of a pooled course, K classes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray.batches.batch import Group
from emoray.methods.base import InputSpec
from emoray.methods.baselines import weights as checkpoints
from emoray.methods.baselines.weights import Fit
from emoray.methods.counter_draws import DropoutKey

ModelName = Literal[
    "eegnet",
    "eegconformer",
    "contrawr",
    "st_transformer",
    "tsception",
    "icaps_reslstm",
    "mactn",
    "biot",
    "labram",
    "cbramod",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the ten: what it is, how it is built, what it wants."""

    citation: str
    """As Table 2 cites it."""
    build: Callable[[InputSpec], nn.Module]
    """The network for segments as they arrive at it; draws its initial weights."""
    head: str = "final_layer"
    """The last layer, the only one that knows K."""
    sfreq: int | None = None
    """Hz it was made for; None: any."""
    patch: int = 1
    """Samples; segments are filled up to a multiple."""
    order: Callable[[Sequence[str]], list[int]] | None = None
    """Places of the electrodes in the order that the network wants; None: any."""
    arguments: Callable[[InputSpec], Mapping[str, Any]] = lambda spec: {}
    """What its forward wants beside the signals."""
    fit: Fit = field(default_factory=Fit)
    """Where its published weights may differ, beside the head."""


def build(name: ModelName, spec: InputSpec, weights: str | None = None) -> Baseline:
    """One of the ten, for a dataset's segments and classes.

    Args:
        name: a key of `MODELS`.
        spec: electrodes, rate, length and classes.
        weights: where pretrained ones are, as `weights.read` takes it; None: initial ones, drawn
            from torch's generator.

    Raises:
        ValueError: there is no such model, it cannot be built for these segments, or the weights
            are not its own.
    """
    if name not in MODELS:
        raise ValueError(f"need a model among {', '.join(MODELS)}; got {name!r}")
    entry = MODELS[name]
    module = Baseline(entry, spec)
    if weights is not None:
        found = checkpoints.read(weights, module.network)
        fit = replace(entry.fit, fresh=(f"{entry.head}.", *entry.fit.fresh))
        checkpoints.put(found, module.network, fit, weights)
    return module


class Baseline(nn.Module):
    """A network behind what brings segments to its rate, length and order of electrodes.

    Dropout is torch's own: whoever calls it in training mode seeds torch's generator.
    """

    def __init__(self, entry: Entry, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        self.prepare = Preparation(entry, spec)
        self.network = entry.build(prepared(entry, spec))
        self._head = entry.head
        self._arguments = dict(entry.arguments(spec))

    @property
    def head(self) -> nn.Module:
        """The last layer, which every number of classes has its own of."""
        return self.network.get_submodule(self._head)

    def forward(self, groups: Sequence[Group], key: DropoutKey | None = None) -> Tensor:
        """Class scores (B, K). The key is not used: see the class.

        Raises:
            ValueError: there is not exactly one group, or its segments are not the spec's.
        """
        if len(groups) != 1:
            raise ValueError(f"need one dataset in a batch of a baseline, got {len(groups)}")
        eeg = groups[0]["eeg"]
        x_BCT = eeg.x_BCT
        need = (self.spec.n_chans, self.spec.n_times, self.spec.sfreq)
        came = (*x_BCT.shape[1:], eeg.sfreq)
        if came != need:
            raise ValueError(
                f"need segments of {need[0]} electrodes x {need[1]} samples at {need[2]:g} Hz, "
                f"got {' x '.join(map(str, x_BCT.shape[1:]))} at {eeg.sfreq:g} Hz"
            )
        scores_BK: Tensor = self.network(self.prepare(x_BCT), **self._arguments)
        return scores_BK


class Preparation(nn.Module):
    """A dataset's segments as a network wants them: order of electrodes, rate, whole patches."""

    order_C: Tensor | None

    def __init__(self, entry: Entry, spec: InputSpec) -> None:
        super().__init__()
        order = None if entry.order is None else torch.tensor(entry.order(spec.channels))
        self.register_buffer("order_C", order, persistent=False)
        self.resample = _resampling(spec.sfreq, entry.sfreq)
        self.n_times = prepared(entry, spec).n_times

    def forward(self, x_BCT: Tensor) -> Tensor:
        """The same segments, prepared."""
        if self.order_C is not None:
            x_BCT = x_BCT[:, self.order_C]
        if self.resample is not None:
            # Signals are resampled in their own precision: a transform of 16 bits follows badly.
            with torch.autocast(x_BCT.device.type, enabled=False):
                x_BCT = self.resample(x_BCT)
        missing = self.n_times - x_BCT.shape[-1]
        return F.pad(x_BCT, (0, missing)) if missing else x_BCT


def prepared(entry: Entry, spec: InputSpec) -> InputSpec:
    """The spec of segments once they are prepared."""
    n_times, sfreq = spec.n_times, spec.sfreq
    if entry.sfreq is not None:
        n_times, sfreq = math.ceil(n_times * entry.sfreq / sfreq), float(entry.sfreq)
    n_times = math.ceil(n_times / entry.patch) * entry.patch
    channels = spec.channels
    if entry.order is not None:
        channels = tuple(channels[i] for i in entry.order(channels))
    return replace(spec, channels=channels, n_times=n_times, sfreq=sfreq)


def _resampling(sfreq: float, wanted: int | None) -> nn.Module | None:
    """From one rate to the other; None where they are the same.

    Raises:
        ValueError: a rate that is no whole number of Hz.
    """
    if wanted is None or sfreq == wanted:
        return None
    if not float(sfreq).is_integer():
        raise ValueError(f"need a whole number of Hz to resample to {wanted} Hz, got {sfreq:g}")
    from torchaudio.transforms import Resample

    resample: nn.Module = Resample(int(sfreq), wanted)
    return resample


# braindecode's seven ------------------------------------------------------------------------------


def _braindecode() -> ModuleType:
    """Its models; imported where they are built, since that takes seconds.

    Raises:
        ImportError: it is not installed.
    """
    with warnings.catch_warnings():
        # Another of its models names a montage that MNE renames; its reader of files warns of its
        # own use of pandas. Neither concerns whoever trains a baseline.
        warnings.filterwarnings("ignore", "Montage name 'standard_1020'", FutureWarning)
        warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)
        try:
            import braindecode.models
        except ImportError as error:
            raise ImportError(
                f"need braindecode for this baseline: pip install 'emoray[baselines]' ({error})"
            ) from error
    models: ModuleType = braindecode.models
    return models


def _signal(spec: InputSpec) -> dict[str, Any]:
    """The spec in braindecode's words."""
    return {
        "n_chans": spec.n_chans,
        "n_outputs": spec.n_outputs,
        "n_times": spec.n_times,
        "sfreq": spec.sfreq,
    }


def _eegnet(spec: InputSpec) -> nn.Module:
    """EEGNet-8,2: first kernel of half a second and a norm-bounded dense layer, as its paper says.

    The second kernel and the pools stay those of its 128 Hz.
    """
    network: nn.Module = _braindecode().EEGNet(
        **_signal(spec), kernel_length=round(spec.sfreq / 2), final_layer_with_constraint=True
    )
    return network


def _eegconformer(spec: InputSpec) -> nn.Module:
    """As released: kernels of 25 samples and pools of 75 by 15, at SEED's 200 Hz as well."""
    network: nn.Module = _braindecode().EEGConformer(**_signal(spec))
    return network


def _contrawr(spec: InputSpec) -> nn.Module:
    """As in BIOT's repository, whence the published scores come: windows of a second by 1/20."""
    network: nn.Module = _braindecode().ContraWR(**_signal(spec))
    return network


N_TSCEPTION_FILTERS = 15
TSCEPTION_HIDDEN = 32
"""Released with the paper of 2023."""


def _tsception(spec: InputSpec) -> nn.Module:
    """The network of 2023, which Table 2 cites; braindecode's is its forerunner of 2020.

    The forerunner flattens the whole time course (0.84 million parameters for FACED). The later one
    has more filters, fuses the three rows of its spatial filters by one more convolution and takes
    the mean over time: that goes in the place of the forerunner's hidden layer, and the count for
    62 electrodes becomes Table 2's.
    """
    network: nn.Module = _braindecode().TSception(
        **_signal(spec),
        number_filter_temp=N_TSCEPTION_FILTERS,
        number_filter_spat=N_TSCEPTION_FILTERS,
        hidden_size=TSCEPTION_HIDDEN,
    )
    half = max(1, spec.n_chans // 2)
    n_rows = 1 + len(range(0, spec.n_chans - half + 1, half))
    network.dense_layer = nn.Sequential(
        nn.Unflatten(1, (N_TSCEPTION_FILTERS, n_rows, -1)),
        nn.Conv2d(N_TSCEPTION_FILTERS, N_TSCEPTION_FILTERS, (3, 1)),
        nn.LeakyReLU(),
        nn.AvgPool2d((1, 4)),
        nn.BatchNorm2d(N_TSCEPTION_FILTERS),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(N_TSCEPTION_FILTERS, TSCEPTION_HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    return network


def hemispheres(channels: Sequence[str]) -> list[int]:
    """Places of electrodes, left half then right half, partners at the same place of each.

    TSception's filter of one hemisphere is used on both. Its authors leave the midline out; what
    has no partner is dealt here to the ends of the two halves, since Table 2's count has all 62.
    """
    place = {name: i for i, name in enumerate(channels)}
    pairs = [(i, place[p]) for i, name in enumerate(channels) if (p := _partner(name)) in place]
    paired = {i for pair in pairs for i in pair}
    rest = [i for i in range(len(channels)) if i not in paired]
    n_left = len(channels) // 2 - len(pairs)
    left, right = [i for i, _ in pairs], [i for _, i in pairs]
    return [*left, *rest[:n_left], *right, *rest[n_left:]]


def _partner(name: str) -> str | None:
    """The right electrode across from a left one, `F8` of `F7`; None of any other."""
    site = name.rstrip("0123456789")
    number = name[len(site) :]
    return f"{site}{int(number) + 1}" if number and int(number) % 2 else None


def _biot(spec: InputSpec) -> nn.Module:
    """As released: windows of a second by half a second, dropout of 0.1 after the positions.

    Its spectra are of rectangular windows; that is said aloud here, since torch warns of a window
    that nobody names.
    """
    network: nn.Module = _braindecode().BIOT(**_signal(spec), drop_prob=0.1)
    encoder: Any = network.encoder
    encoder.stft = partial(_spectrum, n_fft=encoder.n_fft, hop_length=encoder.hop_length)
    return network


def _spectrum(x_B1T: Tensor, *, n_fft: int, hop_length: int) -> Tensor:
    """Magnitudes of rectangular windows, (B, frequencies, windows)."""
    window = torch.ones(n_fft, dtype=x_B1T.dtype, device=x_B1T.device)
    x_BT = x_B1T.squeeze(1)
    return torch.stft(
        x_BT, n_fft, hop_length, window=window, center=False, return_complex=True
    ).abs()


def _labram(spec: InputSpec) -> nn.Module:
    """LaBraM-Base as its released fine-tuning: mean over patches, stochastic depth of 0.1."""
    network: nn.Module = _braindecode().Labram(
        **_signal(spec), use_mean_pooling=True, drop_path_prob=0.1
    )
    return network


def _cbramod(spec: InputSpec) -> nn.Module:
    """As released, less the projection to patches, which its fine-tuning drops as well.

    The head is one linear layer on all patches, of the four that are released the smallest but one.
    Scores as published are with three layers, which are 128 million parameters for FACED.
    """
    network: nn.Module = _braindecode().CBraMod(**_signal(spec))
    network.proj_out = nn.Identity()
    return network


# Those written here -------------------------------------------------------------------------------


def _written_here(spec: InputSpec) -> dict[str, Any]:
    return {**_signal(spec), "channels": spec.channels}


def _st_transformer(spec: InputSpec) -> nn.Module:
    from emoray.methods.baselines.st_transformer import STTransformer

    return STTransformer(**_written_here(spec))


def _icaps_reslstm(spec: InputSpec) -> nn.Module:
    from emoray.methods.baselines.icaps_reslstm import ICapsResLSTM

    return ICapsResLSTM(**_written_here(spec))


def _mactn(spec: InputSpec) -> nn.Module:
    from emoray.methods.baselines.mactn import MACTN

    return MACTN(**_written_here(spec))


MODELS: Mapping[ModelName, Entry] = {
    "eegnet": Entry("Lawhern et al. 2018", _eegnet),
    "eegconformer": Entry("Song et al. 2022", _eegconformer),
    "contrawr": Entry("Yang et al. 2021", _contrawr),
    "st_transformer": Entry("Song et al. 2021", _st_transformer, head="head"),
    "tsception": Entry("Ding et al. 2023", _tsception, order=hemispheres),
    "icaps_reslstm": Entry("Fan et al. 2024", _icaps_reslstm, head="head"),
    "mactn": Entry("Si et al. 2024", _mactn, head="head"),
    "biot": Entry(
        "Yang, Westover and Sun 2023",
        _biot,
        sfreq=200,
        # Its tokens name 16 or 18 bipolar leads; other electrodes begin with tokens of their own.
        fit=Fit(fresh=("encoder.channel_tokens.",), unused=("encoder.index",)),
    ),
    "labram": Entry(
        "Jiang, Zhao and Lu 2024",
        _labram,
        sfreq=200,
        patch=200,
        arguments=lambda spec: {"ch_names": list(spec.channels)},
        fit=Fit(fresh=("fc_norm.",), unused=("norm.",), first_rows=("temporal_embedding",)),
    ),
    "cbramod": Entry(
        "Wang et al. 2024", _cbramod, sfreq=200, patch=200, fit=Fit(unused=("proj_out.",))
    ),
}
"""Table 2's ten, in its order."""
