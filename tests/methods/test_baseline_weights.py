"""Pretrained weights: what is loaded, what stays new, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emoray.methods.base import InputSpec
from emoray.methods.baselines.method import TRAINED_ON, Config, Training, seen
from emoray.methods.baselines.model import MODELS, Baseline, ModelName, build
from emoray.methods.baselines.weights import is_hub_id, read
from tests.groups import inputs_of

SPEC = InputSpec(channels=("F7", "F8", "P3", "P4"), sfreq=200.0, n_times=400, n_outputs=3)
NAMES: tuple[ModelName, ...] = get_args(ModelName)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(name: ModelName, spec: InputSpec = SPEC) -> dict[str, Tensor]:
    """A network's weights as training might leave them: other than any initial ones."""
    torch.manual_seed(99)
    network = build(name, spec).network
    return {
        key: x + 0.01 if x.is_floating_point() else x for key, x in network.state_dict().items()
    }


def built(name: ModelName, weights: Path | str | None, spec: InputSpec = SPEC) -> Baseline:
    return Training(
        Config(model=name, weights=None if weights is None else str(weights)), inputs_of(spec), {}
    ).build()


def saved(weights: object, path: Path) -> Path:
    torch.save(weights, path)
    return path


def loaded(module: Baseline, weights: Mapping[str, Tensor]) -> dict[str, bool]:
    """By name, whether the network has the checkpoint's values."""
    return {
        key: key in weights and torch.equal(x, weights[key])
        for key, x in module.network.state_dict().items()
    }


def under(prefix: str, found: Mapping[str, bool]) -> set[bool]:
    return {hit for key, hit in found.items() if key.startswith(prefix)}


def elsewhere(prefixes: tuple[str, ...], found: Mapping[str, bool]) -> set[bool]:
    return {hit for key, hit in found.items() if not key.startswith(prefixes)}


# What is loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_head_of_other_classes_stays_new_and_all_else_is_loaded(
    name: ModelName, tmp_path: Path
) -> None:
    weights = trained(name, replace(SPEC, n_outputs=7))
    module = built(name, saved(weights, tmp_path / "w.pth"))
    head = f"{MODELS[name].head}."
    assert elsewhere((head,), loaded(module, weights)) == {True}
    scratch = built(name, None).head.state_dict()
    assert all(torch.equal(x, scratch[key]) for key, x in module.head.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_a_head_of_the_same_classes_is_loaded_too(name: ModelName, tmp_path: Path) -> None:
    weights = trained(name)
    assert set(loaded(built(name, saved(weights, tmp_path / "w.pth")), weights).values()) == {True}


def test_every_kind_of_file_and_folder_says_the_same(tmp_path: Path) -> None:
    weights = trained("contrawr")
    for folder in ("hub", "older"):
        (tmp_path / folder).mkdir()
    save_file(weights, tmp_path / "w.safetensors")
    save_file(weights, tmp_path / "hub/model.safetensors")
    places = [
        tmp_path / "w.safetensors",
        tmp_path / "hub",
        saved(weights, tmp_path / "older/pytorch_model.bin").parent,
        saved({"state_dict": weights, "epoch": 3}, tmp_path / "wrapped.ckpt"),
        saved({"model": weights}, tmp_path / "wrapped.pt"),
    ]
    for place in places:
        assert set(loaded(built("contrawr", place), weights).values()) == {True}, place


def test_what_braindecode_saves_is_read(tmp_path: Path) -> None:
    network: Any = build("eegconformer", SPEC).network
    network.save_pretrained(tmp_path)
    found = loaded(built("eegconformer", tmp_path), network.state_dict())
    assert set(found.values()) == {True}


def test_a_hubs_name_goes_to_braindecode(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    published = build("labram", SPEC).network
    asked = []

    def from_pretrained(name: str) -> nn.Module:
        asked.append(name)
        return published

    monkeypatch.setattr(type(published), "from_pretrained", from_pretrained)
    module = built("labram", "braindecode/labram-pretrained")
    assert asked == ["braindecode/labram-pretrained"]
    assert set(loaded(module, published.state_dict()).values()) == {True}


def test_labrams_table_of_times_is_cut_to_the_segment(tmp_path: Path) -> None:
    """As published: 16 rows, a norm after the blocks instead of one after the mean, no head."""
    weights = trained("labram", replace(SPEC, n_times=3000))
    weights |= {"norm.weight": torch.ones(200), "norm.bias": torch.zeros(200)}
    for key in [k for k in weights if k.startswith(("fc_norm.", "final_layer."))]:
        del weights[key]
    module = built("labram", saved(weights, tmp_path / "w.pth"))
    assert weights["temporal_embedding"].shape[1] == 16
    own = module.network.state_dict()["temporal_embedding"]
    assert torch.equal(own, weights["temporal_embedding"][:, :3])
    found = loaded(module, weights)
    assert elsewhere(("fc_norm.", "final_layer.", "temporal_embedding"), found) == {True}
    assert under("fc_norm.", found) == {False}


def test_labrams_table_of_times_must_reach(tmp_path: Path) -> None:
    weights = trained("labram", replace(SPEC, n_times=200))
    with pytest.raises(ValueError, match=r"temporal_embedding \(1, 2, 200\) instead of \(1, 3"):
        built("labram", saved(weights, tmp_path / "w.pth"))


def test_biots_tokens_of_other_leads_stay_new(tmp_path: Path) -> None:
    weights = trained("biot", replace(SPEC, channels=tuple(f"E{i}" for i in range(18))))
    found = loaded(built("biot", saved(weights, tmp_path / "w.pth")), weights)
    assert under("encoder.channel_tokens.", found) == {False}
    assert elsewhere(("encoder.channel_tokens.",), found) == {True}


def test_cbramods_projection_to_patches_is_passed_over(tmp_path: Path) -> None:
    weights = trained("cbramod")
    weights = {key: x for key, x in weights.items() if not key.startswith("final_layer.")}
    weights |= {"proj_out.0.weight": torch.zeros(200, 200), "proj_out.0.bias": torch.zeros(200)}
    found = loaded(built("cbramod", saved(weights, tmp_path / "w.pth")), weights)
    assert elsewhere(("final_layer.",), found) == {True}
    assert under("final_layer.", found) == {False}


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["nowhere.pth", "/nowhere/w.safetensors", "./a/b", "one-word"])
def test_a_missing_file_is_named(weights: str) -> None:
    with pytest.raises(ValueError, match=f"as weights, got '{weights}'"):
        built("eegnet", weights)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need model\.safetensors or pytorch_model\.bin in"):
        built("eegnet", tmp_path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"need readable weights, got .*{name}"):
        built("eegnet", path)


def test_a_pickle_of_objects_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"weights": Touch(tmp_path / "ran")}, protocol=2))
    with pytest.raises(ValueError, match="need readable weights"):
        built("eegnet", path)
    assert not (tmp_path / "ran").exists()


class Touch:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.zeros(1)], "need named tensors, got .* with list"),
        ({}, "need named tensors"),
        ({"epoch": 3}, "need tensors, got .* with epoch of int"),
    ],
)
def test_what_is_not_named_tensors_is_refused(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        built("eegnet", saved(content, tmp_path / "w.pth"))


def test_weights_of_another_model_are_refused_with_names(tmp_path: Path) -> None:
    path = saved(trained("contrawr"), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"this EEGConformer, got .*missing .*unknown \(convs\.0"):
        built("eegconformer", path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_tensor_of_the_encoder_is_refused(name: ModelName, tmp_path: Path) -> None:
    weights = trained(name)
    encoder = [key for key in weights if not key.startswith(f"{MODELS[name].head}.")]
    del weights[encoder[0]]
    with pytest.raises(ValueError, match=rf"1 missing \({encoder[0]}\)"):
        built(name, saved(weights, tmp_path / "w.pth"))


def test_no_hub_has_what_is_written_here() -> None:
    with pytest.raises(ValueError, match="weights of MACTN, which no hub has; got 'some/mactn'"):
        built("mactn", "some/mactn")


def test_a_hub_that_does_not_answer_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("biot", SPEC).network

    def from_pretrained(name: str) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(type(network), "from_pretrained", from_pretrained)
    with pytest.raises(ValueError, match="got some/biot: OSError: no route to host"):
        read("some/biot", network)


# What a row says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("/data/weights/labram-base.pth", "pretrained (weights labram-base.pth)"),
        ("/data/weights/labram", "pretrained (weights labram)"),
        ("braindecode/labram-pretrained", "pretrained (weights braindecode/labram-pretrained)"),
        ("weights/labram-base.pth", "pretrained (weights labram-base.pth)"),
    ],
)
def test_a_row_names_its_weights(weights: str, words: str) -> None:
    trained = Training(Config(model="labram", weights=weights), inputs_of(SPEC), {})
    assert trained.start_words == words


def test_a_file_is_no_hubs_name() -> None:
    assert is_hub_id("braindecode/biot-pretrained-six-datasets-18chs")
    assert not any(map(is_hub_id, ["a/b.pth", "a/b.safetensors", "a", "a/b/c", "/a/b", "../b"]))


def test_labrams_weights_have_seen_seed_and_the_row_can_say_so() -> None:
    told = seen(Config(model="labram", weights="braindecode/labram-pretrained"))
    assert set(told) == {"seed", "seed_iv"}
    assert all("Jiang, Zhao and Lu 2024" in source for source in told.values())


def test_from_scratch_nothing_was_seen() -> None:
    assert not any(seen(Config(model=name)) for name in NAMES)


def test_of_others_weights_no_dataset_here_is_known() -> None:
    assert set(TRAINED_ON) == {"biot", "labram", "cbramod"}
    for name in NAMES:
        if name != "labram":
            assert not seen(Config(model=name, weights="w.pth"))
