"""Settings survive every form they are kept in, and a wrong one never passes for a default."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoray.runtime.config import (
    canonical_json,
    digest,
    dotted_fields,
    dotted_values,
    from_dict,
    load_toml,
    set_all,
    set_dotted,
    to_dict,
)


@dataclass(frozen=True)
class Loss:
    temperature: float = 0.07
    d_max: float = 5.0
    kind: Literal["soft", "hard", 3] = "soft"

    def __post_init__(self) -> None:
        if self.d_max <= 0:
            raise ValueError(f"need d_max > 0, got {self.d_max:g}")


@dataclass(frozen=True)
class Warmup:
    epochs: int


@dataclass(frozen=True)
class Settings:
    loss: Loss = field(default_factory=Loss)
    warmup: Warmup | None = None
    epochs: int = 100
    compile: bool = False
    limit: float | None = None
    subjects: tuple[str, ...] = ()
    band_hz: tuple[float, float] = (0.3, 49.0)
    exceptions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    folder: Path = Path("runs")
    every: int | Literal["auto"] = "auto"
    stages: list[Loss] = field(default_factory=list)
    derived: int = field(default=0, init=False)


finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-9, max_value=1e9)
losses = st.builds(Loss, finite, positive, st.sampled_from(["soft", "hard", 3]))
words = st.text(max_size=5)
settings_st = st.builds(
    Settings,
    loss=losses,
    warmup=st.none() | st.builds(Warmup, st.integers()),
    epochs=st.integers(),
    compile=st.booleans(),
    limit=st.none() | finite,
    subjects=st.lists(words, max_size=3).map(tuple),
    band_hz=st.tuples(finite, finite),
    exceptions=st.dictionaries(words, st.dictionaries(words, st.none() | finite | words)),
    weights=st.dictionaries(words, finite),
    folder=st.sampled_from([Path("a/b"), Path("/c")]),
    every=st.integers() | st.just("auto"),
    stages=st.lists(losses, max_size=2),
)


# There and back -----------------------------------------------------------------------------------


@given(settings_st)
def test_a_config_comes_back_from_its_plain_data_and_from_json(config: Settings) -> None:
    plain = to_dict(config)
    assert from_dict(Settings, plain) == config
    assert from_dict(Settings, json.loads(canonical_json(plain))) == config
    assert digest(config) == digest(plain) == digest(json.loads(canonical_json(plain)))


@given(settings_st, settings_st)
def test_digests_are_equal_exactly_where_configs_are(a: Settings, b: Settings) -> None:
    same = canonical_json(to_dict(a)) == canonical_json(to_dict(b))
    assert (digest(a) == digest(b)) == same
    assert re.fullmatch("[0-9a-f]{12}", digest(a))


def test_the_digest_of_a_config_never_changes() -> None:
    config = Settings(loss=Loss(d_max=4.0), subjects=("01",))
    assert digest(config) == "40f20c1c75f0"


def test_a_whole_number_in_a_field_of_floats_is_the_same_config() -> None:
    assert digest(Settings(loss=Loss(d_max=5))) == digest(Settings())
    made = from_dict(Settings, {"band_hz": [1, 45], "limit": 3})
    assert made.band_hz == (1.0, 45.0)
    assert all(isinstance(x, float) for x in (*made.band_hz, made.limit))


def test_fields_that_are_left_out_keep_their_defaults() -> None:
    assert from_dict(Settings, {}) == Settings()
    assert from_dict(Settings, {"loss": {"kind": "hard"}}).loss == Loss(kind="hard")


def test_fields_that_nobody_sets_are_in_no_form() -> None:
    assert "derived" not in to_dict(Settings())
    assert "derived" not in dotted_fields(Settings)


def test_toml_is_read_with_comments_tables_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        """
        epochs = 3                 # short
        subjects = ["01", "02"]
        band_hz = [1, 40.5]
        every = 10
        [loss]
        d_max = 4
        [warmup]
        epochs = 2
        [exceptions.faced]
        ica = "none"
        [[stages]]
        kind = 3
        """
    )
    assert load_toml(Settings, path) == Settings(
        loss=Loss(d_max=4.0),
        warmup=Warmup(2),
        epochs=3,
        subjects=("01", "02"),
        band_hz=(1.0, 40.5),
        exceptions={"faced": {"ica": "none"}},
        every=10,
        stages=[Loss(kind=3)],
    )


# Wrong settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": {"d_max": "5"}}, "need a finite number for loss.d_max, got '5'"),
        ({"loss": {"d_max": True}}, "need a finite number for loss.d_max, got True"),
        ({"loss": {"d_max": float("nan")}}, "need a finite number for loss.d_max, got nan"),
        ({"loss": {"d_max": -1}}, "need d_max > 0, got -1 (in loss)"),
        ({"loss": {"kind": "Soft"}}, "need one of 'soft', 'hard', 3 for loss.kind, got 'Soft'; "
         "did you mean 'soft'?"),
        ({"loss": {"kind": 3.0}}, "need one of 'soft', 'hard', 3 for loss.kind, got 3.0 (float)"),
        ({"loss": 5}, "need a table of Loss for loss, got 5 (int)"),
        ({"epochs": 1.5}, "need a whole number for epochs, got 1.5 (float)"),
        ({"epochs": True}, "need a whole number for epochs, got True"),
        ({"epochs": None}, "need a whole number for epochs, got None"),
        ({"compile": 1}, "need true or false for compile, got 1 (int)"),
        ({"limit": "a"}, "need a finite number or nothing for limit, got 'a'"),
        ({"subjects": "01"}, "need a list, each text for subjects, got '01'"),
        ({"subjects": ["01", 2]}, "need text for subjects[1], got 2 (int)"),
        ({"band_hz": [1]}, "need a list of 2: a finite number, a finite number for band_hz, got"),
        ({"weights": {"eeg": "x"}}, "need a finite number for weights.eeg, got 'x'"),
        ({"folder": 1}, "need a path for folder, got 1 (int)"),
        ({"every": "never"}, "need a whole number or one of 'auto' for every, got 'never'"),
        ({"warmup": {}}, "need a value for warmup.epochs, got none"),
        ({"warmup": {"epochs": "x"}}, "need a whole number for warmup.epochs, got 'x'"),
        ({"stages": [{}, {"d_max": 0}]}, "need d_max > 0, got 0 (in stages[1])"),
        ({"derived": 1}, "need a field of Settings, got 'derived'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_field_what_was_needed_and_what_came(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        from_dict(Settings, values)


@pytest.mark.parametrize(
    ("values", "name", "meant"),
    [
        ({"epoch": 3}, "epoch", "epochs"),
        ({"d_max": 3}, "d_max", "loss.d_max"),
        ({"dmax": 3}, "dmax", "loss.d_max"),
        ({"loss": {"dmax": 3}}, "loss.dmax", "loss.d_max"),
        ({"los": {}}, "los", "loss"),
    ],
)
def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(
    values: dict[str, Any], name: str, meant: str
) -> None:
    with pytest.raises(ValueError, match=rf"got '{name}'; did you mean .*\b{meant}\b"):
        from_dict(Settings, values)


def test_a_field_like_no_other_is_answered_with_all_of_them() -> None:
    with pytest.raises(
        ValueError,
        match=r"need a field of Loss, got 'loss\.zzzz'; known are "
        r"loss\.temperature, loss\.d_max, loss\.kind",
    ):
        from_dict(Settings, {"loss": {"zzzz": 1}})


def test_errors_of_a_file_start_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[loss]\nd_max = 'far'\n")
    with pytest.raises(ValueError, match=r"run\.toml: need a finite number for loss\.d_max"):
        load_toml(Settings, path)
    path.write_text("epochs = \n")
    with pytest.raises(ValueError, match=r"run\.toml: .*line 1"):
        load_toml(Settings, path)


def test_what_plain_data_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match=r"need a finite number for loss\.temperature, got inf"):
        to_dict(Settings(loss=Loss(temperature=float("inf"))))
    with pytest.raises(ValueError, match=r"need plain data for exceptions\.a\.b, got <object"):
        to_dict(Settings(exceptions={"a": {"b": object()}}))


# One field ----------------------------------------------------------------------------------------


def test_one_field_is_changed_and_the_rest_kept() -> None:
    config = Settings(epochs=7)
    changed = set_dotted(config, "loss.d_max", 4)
    assert changed == replace(config, loss=Loss(d_max=4.0))
    assert set_dotted(changed, "subjects", ["03"]).subjects == ("03",)
    assert config == Settings(epochs=7)


@given(settings_st)
def test_setting_every_field_to_itself_changes_nothing(config: Settings) -> None:
    for name in dotted_fields(Settings):
        owner: Any = config
        for step in name.split("."):
            owner = getattr(owner, step, None)
        if owner is not None:
            assert set_dotted(config, name, owner) == config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss.dmax", 1, "need a field of Settings, got 'loss.dmax'; did you mean loss.d_max"),
        ("loss.d_max", "x", "need a finite number for loss.d_max, got 'x'"),
        ("loss.d_max", 0, "need d_max > 0, got 0 (in loss.d_max)"),
        ("loss.d_max.x", 1, "need a field of Settings, got 'loss.d_max.x'"),
        ("warmup.epochs", 1, "need warmup before warmup.epochs can be set, got None"),
        ("", 1, "need a field of Settings, got ''"),
    ],
)
def test_a_field_that_is_not_there_or_cannot_hold_the_value_is_an_error(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        set_dotted(Settings(), name, value)


# Several fields -----------------------------------------------------------------------------------


def test_several_fields_are_changed_at_once_and_the_rest_kept() -> None:
    config = Settings(epochs=7)
    changed = set_all(config, {"loss.d_max": 4, "subjects": ["03"], "warmup.epochs": 2})
    assert changed == replace(
        config, loss=Loss(d_max=4.0), subjects=("03",), warmup=Warmup(epochs=2)
    )
    assert config == Settings(epochs=7)
    assert set_all(config, {}) == config


def test_fields_that_only_fit_together_are_set_in_any_order() -> None:
    from emoray.methods.emod.config import EncoderConfig

    values = {"d_model": 6, "n_heads": 3, "n_norm_groups": 2}  # none of them fits the defaults
    for order in permutations(values):
        found = set_all(EncoderConfig(), {name: values[name] for name in order})
        assert found == EncoderConfig(**values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss.dmax", 1, "need a field of Loss, got 'loss.dmax'; did you mean loss.d_max"),
        ("lss.d_max", 1, "need a field of Settings, got 'lss'"),
        ("loss.d_max", "x", "need a finite number for loss.d_max, got 'x'"),
        ("loss.d_max", 0, "need d_max > 0, got 0 (in loss)"),
        ("loss.d_max.x", 1, "need a field of Settings, got 'loss.d_max.x'"),
        ("warmup.epohcs", 1, "need a field of Warmup, got 'warmup.epohcs'"),
        ("", 1, "need a field of Settings, got ''"),
    ],
)
def test_several_fields_of_which_one_cannot_be_are_an_error(
    name: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        set_all(Settings(), {"epochs": 3, name: value})


def test_dotted_fields_lead_through_tables_that_may_be_absent() -> None:
    found = dotted_fields(Settings)
    assert found["loss.d_max"] is float
    assert found["warmup.epochs"] is int
    assert "loss" not in found


def test_every_value_is_found_by_its_dotted_name() -> None:
    from emoray.methods.emod.config import Config

    values = dotted_values(Config())
    assert values["loss.d_max"] == 5.0
    assert values.keys() == dotted_fields(Config).keys()
