"""Table 2's ten baselines: one contract for all, their sizes, and how segments reach them."""

from __future__ import annotations

import math
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, cast, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emoray import datasets
from emoray.batches.batch import Batch
from emoray.methods.base import InputSpec, Start, count
from emoray.methods.baselines.method import STAGES, Config, Training, rehearsal_config
from emoray.methods.baselines.model import (
    MODELS,
    Baseline,
    ModelName,
    build,
    hemispheres,
    prepared,
)
from emoray.methods.settings import OptimizerConfig
from emoray.vocabulary.electrodes import GENEVA_32, SEED_62, VOCABULARY
from tests.groups import eeg_group, inputs_of, with_eeg

FACED = datasets.get("faced").CARD.eeg
assert FACED is not None
FACED_32 = (*FACED.channels, "M1", "M2")
"""With the two that are not scalp, which EMOD and CBraMod keep."""
SPECS = {
    "faced": InputSpec(channels=FACED_32, sfreq=200.0, n_times=2000, n_outputs=9),
    "faced at 250 Hz": InputSpec(channels=FACED_32, sfreq=250.0, n_times=2500, n_outputs=9),
    "seed_v": InputSpec(channels=SEED_62, sfreq=200.0, n_times=200, n_outputs=5),
    "seed": InputSpec(channels=SEED_62, sfreq=200.0, n_times=1000, n_outputs=3),
}
SMALL = InputSpec(channels=("F7", "F8", "P3", "P4"), sfreq=200.0, n_times=200, n_outputs=2)
NAMES: tuple[ModelName, ...] = get_args(ModelName)
BRAINDECODES = tuple(name for name in NAMES if MODELS[name].head == "final_layer")
WITHOUT_DROPOUT = ("icaps_reslstm",)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def stage(name: ModelName, spec: InputSpec = SMALL, **settings: Any) -> Training:
    return Training(Config(model=name, **settings), inputs_of(spec), {})


def batch(spec: InputSpec = SMALL, n: int = 8, step: int = 0, seed: int = 0) -> Batch:
    """Noise with labels in turn: nothing to learn, everything to remember."""
    generator = torch.Generator().manual_seed(seed)
    x_BCT = torch.randn(n, spec.n_chans, spec.n_times, generator=generator)
    group = eeg_group(x_BCT, spec.channels, spec.sfreq, torch.arange(n))
    return Batch(step, (group,), {"label": torch.arange(n) % spec.n_outputs})


def train(
    trained: Training, module: nn.Module, optimizer: torch.optim.Optimizer, steps: range, n: int = 8
) -> None:
    for step in steps:
        loss = trained.losses(module, batch(trained.spec, n=n, step=step))["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def adamw(module: nn.Module, learning_rate: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=learning_rate)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in module.state_dict().items()}


def same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# All ten ------------------------------------------------------------------------------------------


def paper_rows() -> dict[str, Mapping[str, Any]]:
    """Table 2's rows by the model that reproduces them."""
    text = resources.files("emoray.methods.emod").joinpath("paper.toml").read_text(encoding="utf-8")
    reproduced = [row for row in tomllib.loads(text)["table_2"]["rows"] if "reproduce" in row]
    return {
        row["reproduce"]["set"]["model"]: row
        for row in reproduced
        if row["reproduce"]["method"] == "baselines"
    }


def test_no_model_is_left_out() -> None:
    assert list(MODELS) == list(NAMES) == list(N_PARAMETERS) == list(paper_rows())
    assert len(NAMES) == 10
    assert {row["reproduce"]["stages"][0] for row in paper_rows().values()} == set(STAGES)


@pytest.mark.parametrize("dataset", SPECS)
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_all_gradients_are_finite(name: ModelName, dataset: str) -> None:
    spec = SPECS[dataset]
    module = stage(name, spec).build()
    data = batch(spec, n=2)
    assert module(data.groups).shape == (2, spec.n_outputs)
    loss = stage(name, spec).losses(module, data)["cross_entropy"]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    for parameter_name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_the_weights(name: ModelName) -> None:
    module = stage(name).build()
    before = state(module)
    train(stage(name), module, adamw(module), range(1))
    moved = {key for key, x in module.named_parameters() if not torch.equal(x, before[key])}
    assert moved >= {key for key, x in module.named_parameters() if x.requires_grad}


@pytest.mark.parametrize("name", NAMES)
def test_it_overfits_32_segments_of_noise(name: ModelName) -> None:
    trained = stage(name)
    module = trained.build()
    optimizer = adamw(module)
    everything = batch(n=32)
    label_B = everything["label"]
    for first in range(0, 400, 10):
        module.train()
        train(trained, module, optimizer, range(first, first + 10), n=32)
        module.eval()
        predicted_B = trained.scores(module, everything.groups).argmax(1)
        if torch.equal(predicted_B, label_B):
            return
    pytest.fail(f"{(predicted_B == everything['label']).sum()} of 32 after 400 steps")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights(name: ModelName) -> None:
    torch.manual_seed(1)
    first = state(stage(name).build())
    drawn = torch.rand(1)
    torch.manual_seed(2)
    assert same(first, state(stage(name).build()))
    assert not same(first, state(stage(name, seed=1).build()))
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "building drew from the process's generator"


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_all_that_knows_the_classes(name: ModelName) -> None:
    two, five = (stage(name, replace(SMALL, n_outputs=n)).build() for n in (2, 5))
    head = {id(x) for x in two.head.parameters()}
    shapes = {key: x.shape for key, x in five.named_parameters()}
    assert head == {id(x) for key, x in two.named_parameters() if x.shape != shapes[key]}
    for parameter in two.head.parameters():
        nn.init.zeros_(parameter)
    assert not stage(name).scores(two.eval(), batch().groups).any()


@pytest.mark.parametrize("name", NAMES)
def test_encoder_and_head_are_counted_apart(name: ModelName) -> None:
    module = stage(name).build()
    counted = stage(name).n_parameters(module)
    assert counted["head"] == count(module.head) > 0
    assert sum(counted.values()) == count(module)


@pytest.mark.parametrize("precision", ["bf16", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_every_precision_runs(name: ModelName, precision: str) -> None:
    spec = replace(SMALL, sfreq=250.0, n_times=250)
    trained, module, data = stage(name, spec), stage(name, spec).build(), batch(spec)
    if precision == "float64":
        module, data = module.double(), data.to(torch.device("cpu"), torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = trained.losses(module, data)["cross_entropy"]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()


def test_nothing_is_said_on_the_terminal() -> None:
    program = (
        "from tests.methods.test_baselines import *\n"
        "torch.set_num_threads(1)\n"
        "for name in NAMES: train(stage(name), m := stage(name).build(), adamw(m), range(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_naming_the_method_loads_neither_braindecode_nor_torchaudio() -> None:
    program = (
        "import sys; from emoray import methods; methods.get('baselines').rehearsal_config()\n"
        "print([m for m in ('braindecode', 'torchaudio', 'mne') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# Dropout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_dropout_depends_on_seed_and_step_alone(name: ModelName) -> None:
    module = stage(name).build()
    assert _loss(name, module, step=4) == _loss(name, module, step=4)
    losses = {_loss(name, module, seed=seed, step=step) for seed in (0, 1) for step in range(5)}
    # Two may be equal: LaBraM's head begins at a thousandth of the usual.
    assert len(losses) == 1 if name in WITHOUT_DROPOUT else len(losses) > 7


def _loss(name: ModelName, module: nn.Module, *, seed: int = 0, step: int = 0) -> float:
    """Of one batch; the process's generator is elsewhere each time and stays there."""
    torch.rand(7)
    before = torch.get_rng_state()
    with torch.no_grad():
        loss = stage(name, seed=seed).losses(module, replace(batch(), step=step))["cross_entropy"]
    assert torch.equal(before, torch.get_rng_state())
    return loss.item()


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name: ModelName) -> None:
    trained = stage(name)
    whole = trained.build()
    optimizer = adamw(whole)
    train(trained, whole, optimizer, range(2))
    weights, moments = state(whole), optimizer.state_dict()
    moments = {**moments, "state": {k: _copied(v) for k, v in moments["state"].items()}}
    train(trained, whole, optimizer, range(2, 4))

    torch.rand(5)
    resumed = trained.build()
    again = adamw(resumed)
    resumed.load_state_dict(weights)
    again.load_state_dict(moments)
    train(trained, resumed, again, range(2, 4))
    assert same(state(whole), state(resumed))


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: x.clone() if isinstance(x, Tensor) else x for key, x in values.items()}


# Sizes --------------------------------------------------------------------------------------------

N_PARAMETERS: dict[ModelName, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "eegnet": ((1_904, 8_937), (2_384, 485), (2_384, 1_491)),
    "eegconformer": ((1_481_280, 297), (300_480, 165), (853_440, 99)),
    "contrawr": ((1_580_256, 2_313), (1_597_536, 1_285), (1_597_536, 771)),
    "st_transformer": ((3_442_240, 2_313), (3_476_170, 1_285), (3_477_770, 771)),
    "tsception": ((14_792, 297), (24_917, 165), (24_917, 99)),
    "icaps_reslstm": ((1_093_376, 1_161), (1_162_496, 645), (1_162_496, 387)),
    "mactn": ((6_868_256, 1_161), (13_916_606, 1_245), (13_926_526, 747)),
    "biot": ((3_190_272, 2_313), (3_197_952, 1_285), (3_197_952, 771)),
    "labram": ((5_818_936, 1_809), (5_817_136, 1_005), (5_817_936, 603)),
    "cbramod": ((4_883_600, 576_009), (4_883_600, 62_005), (4_883_600, 186_003)),
}
"""Encoder and head, for FACED, SEED-V and SEED at 200 Hz. Table 2 has one number for all three."""

DIFFERS = {
    "eegnet": "the head has a weight for each of 62 steps of time; Table 2's 0.003 is SEED-V's",
    "eegconformer": "its first dense layer has 256 weights for each of 127 x 40 features of 10 s; "
    "no dataset of the three gives 0.55 (SEED-V 0.30, SEED 0.85)",
    "tsception": "a weight for each electrode: with 62 of them it is Table 2's 0.03",
    "cbramod": "4.0 is what remains without the weights of nn.MultiheadAttention, which counters "
    "of layers pass over; and the head, which the paper leaves out, has each patch's features",
}
"""Why a model for FACED has not Table 2's number, to two per cent."""


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_parameters(name: ModelName) -> None:
    for dataset, expected in zip(("faced", "seed_v", "seed"), N_PARAMETERS[name], strict=True):
        trained = stage(name, SPECS[dataset])
        counted = trained.n_parameters(trained.build())
        assert (counted["encoder"], counted["head"]) == expected, dataset


@pytest.mark.parametrize("name", NAMES)
def test_faceds_number_is_table_2s_or_the_reason_is_told(name: ModelName) -> None:
    published = paper_rows()[name]["n_parameters_m"] * 1e6
    ours = sum(N_PARAMETERS[name][0])
    assert (name in DIFFERS) == (not math.isclose(ours, published, rel_tol=0.02))


@pytest.mark.parametrize(("name", "dataset"), [("eegnet", 1), ("tsception", 1), ("tsception", 2)])
def test_the_reason_told_holds_where_another_dataset_has_it(name: ModelName, dataset: int) -> None:
    published = paper_rows()[name]["n_parameters_m"]
    digits = len(str(published).partition(".")[2])
    assert round(sum(N_PARAMETERS[name][dataset]) / 1e6, digits) == published


def test_cbramods_published_number_is_the_one_without_attention() -> None:
    module = build("cbramod", SPECS["faced"])
    attention = sum(count(m) for m in module.modules() if isinstance(m, nn.MultiheadAttention))
    projection = 200 * 200 + 200  # dropped for classification, counted with pretraining
    encoder = count(module) - count(module.head)
    assert round((encoder + projection - attention) / 1e6, 1) == 4.0


def test_tsceptions_number_follows_from_its_paper() -> None:
    n, hidden, n_classes = 15, 32, 3
    filters = n * (100 + 50 + 25) + 3 * n
    hemispheres_too = n * n * (62 + 31) + 2 * n
    fusion = n * n * 3 + n
    norms = 3 * 2 * n
    dense = n * hidden + hidden + hidden * n_classes + n_classes
    expected = filters + hemispheres_too + fusion + norms + dense
    assert expected == sum(N_PARAMETERS["tsception"][2])


# Segments on their way ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sfreq", "n_times", "arrives"),
    [
        ("cbramod", 250.0, 2500, (200.0, 2000)),
        ("labram", 128.0, 256, (200.0, 400)),
        ("labram", 200.0, 1100, (200.0, 1200)),  # the last patch is filled up
        ("labram", 128.0, 200, (200.0, 400)),  # 312.5 samples become 313 of two patches
        ("biot", 300.0, 3000, (200.0, 2000)),
        ("biot", 200.0, 1100, (200.0, 1100)),
        ("eegnet", 250.0, 2500, (250.0, 2500)),
    ],
)
def test_rates_and_lengths(
    name: ModelName, sfreq: float, n_times: int, arrives: tuple[float, int]
) -> None:
    spec = replace(SMALL, sfreq=sfreq, n_times=n_times)
    after = prepared(MODELS[name], spec)
    assert (after.sfreq, after.n_times) == arrives
    module = build(name, spec)
    x_BCT = batch(spec, n=2).groups[0]["eeg"].x_BCT
    assert module.prepare(x_BCT).shape == (2, spec.n_chans, after.n_times)
    assert module(batch(spec, n=2).groups).isfinite().all()


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 300.0])
def test_resampled_signals_are_the_same_signals(sfreq: float) -> None:
    spec = replace(SMALL, sfreq=sfreq, n_times=int(2 * sfreq))
    prepare = build("labram", spec).prepare
    before_BCT, after_BCT = (
        torch.sin(2 * math.pi * 10 * torch.arange(2 * rate) / rate).expand(1, spec.n_chans, -1)
        for rate in (int(sfreq), 200)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        resampled_BCT = prepare(before_BCT)
    assert resampled_BCT.dtype is torch.float32
    middle = slice(20, -20)  # the filter meets the segment's ends
    assert torch.allclose(resampled_BCT[..., middle], after_BCT[..., middle], atol=0.01)


def test_a_last_patch_is_filled_with_zeros() -> None:
    spec = replace(SMALL, n_times=300)
    x_BCT = batch(spec).groups[0]["eeg"].x_BCT
    prepared_BCT = build("cbramod", spec).prepare(x_BCT)
    assert torch.equal(prepared_BCT[..., :300], x_BCT)
    assert not prepared_BCT[..., 300:].any()


def test_a_rate_of_no_whole_number_is_refused_where_it_would_be_resampled() -> None:
    spec = replace(SMALL, sfreq=199.5)
    with pytest.raises(ValueError, match=r"whole number of Hz to resample to 200 Hz, got 199\.5"):
        build("biot", spec)
    assert build("eegnet", spec)(batch(spec).groups).shape == (8, 2)


@pytest.mark.parametrize("channels", [FACED_32, GENEVA_32, SEED_62, ("Cz", "F7", "F8"), ("F7",)])
def test_partners_of_the_hemispheres_lie_across_from_each_other(channels: tuple[str, ...]) -> None:
    order = [channels[i] for i in hemispheres(channels)]
    assert sorted(order) == sorted(channels)
    half = len(channels) // 2
    for left, right in (("F7", "F8"), ("C3", "C4"), ("CB1", "CB2"), ("M1", "M2"), ("O1", "O2")):
        if left in channels and right in channels:
            assert order.index(left) < half
            assert order.index(right) == order.index(left) + half


def test_tsception_gets_the_left_hemisphere_first() -> None:
    spec = replace(SMALL, channels=("P4", "F7", "P3", "F8"))
    x_BCT = batch(spec).groups[0]["eeg"].x_BCT
    assert torch.equal(build("tsception", spec).prepare(x_BCT), x_BCT[:, [1, 2, 3, 0]])
    assert torch.equal(build("eegnet", spec).prepare(x_BCT), x_BCT)


def test_labram_knows_every_electrode_by_its_name() -> None:
    spec = replace(SMALL, channels=VOCABULARY)
    module = build("labram", spec).eval()
    assert module(batch(spec, n=1).groups).isfinite().all()
    other = build("labram", replace(spec, channels=VOCABULARY[::-1])).eval()
    other.load_state_dict(module.state_dict())
    assert not torch.equal(other(batch(spec, n=1).groups), module(batch(spec, n=1).groups))


def test_biots_spectra_are_those_of_braindecode() -> None:
    encoder = cast(Any, build("biot", SMALL).network).encoder
    x_B1T = batch(n=3).groups[0]["eeg"].x_BCT[:, :1]
    with pytest.warns(UserWarning, match="A window was not provided"):
        unnamed = type(encoder).stft(encoder, x_B1T)
    assert torch.equal(encoder.stft(x_B1T), unnamed)


def test_eegnets_first_kernel_is_half_a_second() -> None:
    for sfreq in (128.0, 200.0, 250.0):
        network = cast(Any, build("eegnet", replace(SMALL, sfreq=sfreq)).network)
        assert network.conv_temporal.kernel_size == (1, sfreq / 2)


# What is refused ----------------------------------------------------------------------------------


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"need a model among eegnet, .*cbramod; got 'eegnit'"):
        build(cast(ModelName, "eegnit"), SMALL)


def test_without_braindecode_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braindecode.models", None)
    with pytest.raises(ImportError, match=r"pip install 'emoray\[baselines\]'"):
        build("eegnet", SMALL)


def test_other_segments_than_it_was_built_for_are_refused() -> None:
    module = build("eegnet", SMALL)
    group = batch().groups[0]
    wrong = [
        with_eeg(group, x_BCT=group["eeg"].x_BCT[:, :3]),
        with_eeg(group, x_BCT=group["eeg"].x_BCT[..., :-1]),
        with_eeg(group, sfreq=250.0),
    ]
    for other in wrong:
        with pytest.raises(ValueError, match="need segments of 4 electrodes x 200 samples at 200"):
            module((other,))


@pytest.mark.parametrize("n", [0, 2])
def test_batches_of_several_datasets_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"need one dataset in a batch of a baseline, got {n}"):
        build("eegnet", SMALL)(batch().groups * n)


def test_a_checkpoint_of_another_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need no checkpoint .* `weights`"):
        Training(Config(), inputs_of(SMALL), {"encoder": Start(config={}, model={})})


# Settings -----------------------------------------------------------------------------------------


def test_all_are_trained_alike() -> None:
    first, *others = (replace(Config(model=name), model="eegnet") for name in NAMES)
    assert all(other == first for other in others)
    assert first.optimizer == OptimizerConfig()


@pytest.mark.parametrize("name", NAMES)
def test_a_rehearsal_is_shorter_and_nothing_else(name: ModelName) -> None:
    short, paper = rehearsal_config(name), Config(model=name)
    assert short.epochs < paper.epochs
    changed = replace(short, epochs=50, batch_size=64, optimizer=paper.optimizer)
    assert changed == paper


def test_without_weights_a_row_says_from_scratch() -> None:
    trained = stage("labram")
    assert trained.start_words == "from scratch"
    assert isinstance(trained.build(), Baseline)
    assert trained.chance_loss(8) == pytest.approx(
        F.cross_entropy(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)).item()
    )
