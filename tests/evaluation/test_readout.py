"""The linear read-out finds what is there, and leaves blank what cannot be known."""

from __future__ import annotations

import numpy as np
import pytest

from emoray.evaluation.readout import AxesScores, AxisScores, read_out

D = 12


def planted(n_subjects: int, per_subject: int, noise: float, seed: int = 0):
    """Embeddings that hold valence and arousal on two directions of a fixed basis."""
    basis_D2 = np.random.default_rng(7).standard_normal((D, 2))
    rng = np.random.default_rng(seed)
    n = n_subjects * per_subject
    va_N2 = rng.uniform(-4, 4, (n, 2))
    z_ND = va_N2 @ basis_D2.T + noise * rng.standard_normal((n, D))
    return (
        100 + 5 * z_ND,
        va_N2,
        np.repeat([f"deap-{s:02d}" for s in range(n_subjects)], per_subject),
    )


def read(z_ND, va_N2, test_z_MD, test_va_M2, subjects, others=None, datasets=None):
    """The read-out; without `others` the test rows are of one person."""
    return read_out(
        z_ND,
        va_N2,
        test_z_MD,
        test_va_M2,
        train_subjects=list(subjects),
        test_subjects=["deap-99"] * len(test_z_MD) if others is None else list(others),
        test_datasets=datasets,
    )


def test_a_planted_linear_map_is_recovered():
    z_ND, va_N2, subjects = planted(6, 40, noise=0.1)
    test_z_MD, test_va_M2, others = planted(2, 40, noise=0.1, seed=1)
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects, others)
    for axis in (found.scores.valence, found.scores.arousal):
        assert axis.n == 80
        assert axis.people.r is not None
        assert axis.people.r > 0.99
        assert axis.r2 is not None
        assert axis.r2 > 0.98
        assert axis.mae is not None
        assert axis.mae < 0.3
    assert found.n_train == 240
    assert found.scores.mean_r is not None
    assert found.scores.mean_r > 0.99


def test_noise_reads_as_nothing_and_is_held_down_by_the_penalty():
    rng = np.random.default_rng(3)
    z_ND, va_N2 = rng.standard_normal((200, D)), rng.uniform(-4, 4, (200, 2))
    subjects = np.repeat(list("abcde"), 40)
    test_z_MD, test_va_M2 = rng.standard_normal((300, D)), rng.uniform(-4, 4, (300, 2))
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects)
    assert found.scores.valence.r2 is not None
    assert -0.1 < found.scores.valence.r2 < 0.05
    assert found.penalties["valence"] is not None
    assert found.penalties["valence"] >= 100


def test_the_penalty_is_chosen_with_subjects_apart():
    # Each person carries a signature, which gives the person's mean away: useful for rows of the
    # same person, misleading for a stranger. Row-wise folds would take the smallest penalty.
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(8), 30)
    va_N2 = rng.uniform(-3, 3, (8, 2))[subjects] + rng.normal(0, 0.2, (len(subjects), 2))
    z_ND = rng.standard_normal((8, 6))[subjects] + rng.normal(0, 0.01, (len(subjects), 6))
    found = read(z_ND, va_N2, z_ND[:5], va_N2[:5], subjects.astype(str))
    assert found.penalties["valence"] is not None
    assert found.penalties["valence"] >= 1e3


def test_each_dataset_is_scored_by_itself():
    z_ND, va_N2, subjects = planted(4, 30, noise=0.1)
    test_z_MD, test_va_M2, _ = planted(2, 30, noise=0.1, seed=1)
    test_va_M2[30:] = test_va_M2[30:][::-1]  # the second dataset's values are nonsense
    names = ["deap"] * 30 + ["dreamer"] * 30
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects, datasets=names)
    assert set(found.by_dataset) == {"deap", "dreamer"}
    deap, dreamer = found.by_dataset["deap"], found.by_dataset["dreamer"]
    assert deap.valence.n == dreamer.valence.n == 30
    assert deap.mean_r is not None
    assert dreamer.mean_r is not None
    assert deap.mean_r > 0.98
    assert dreamer.mean_r < 0.6


def test_rows_without_a_value_are_left_out_axis_by_axis():
    z_ND, va_N2, subjects = planted(4, 30, noise=0.1)
    test_z_MD, test_va_M2, _ = planted(2, 30, noise=0.1, seed=1)
    va_N2[::3, 0] = np.nan
    test_va_M2[:10, 1] = np.nan
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects)
    assert (found.scores.valence.n, found.scores.arousal.n) == (60, 50)
    assert found.scores.valence.people.r is not None
    assert found.scores.valence.people.r > 0.98


def test_no_held_out_rows_leave_every_number_blank():
    z_ND, va_N2, subjects = planted(4, 10, noise=0.1)
    found = read(z_ND, va_N2, z_ND[:0], va_N2[:0], subjects, datasets=[])
    assert found.scores == AxesScores(AxisScores(0), AxisScores(0))
    assert found.penalties == {"valence": None, "arousal": None}
    assert found.by_dataset == {}
    assert found.scores.mean_r is None


def test_a_constant_target_has_no_correlation():
    z_ND, va_N2, subjects = planted(4, 10, noise=0.1)
    test_z_MD, test_va_M2, _ = planted(2, 10, noise=0.1, seed=1)
    test_va_M2[:, 0] = 1.5
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects)
    assert found.scores.valence.people.r is None
    assert found.scores.valence.r2 is None
    assert found.scores.valence.mae is not None
    assert found.scores.arousal.people.r is not None
    assert found.scores.mean_r is None


def test_a_constant_training_target_fits_nothing():
    z_ND, va_N2, subjects = planted(4, 10, noise=0.1)
    va_N2[:, 1] = 0.0
    found = read(z_ND, va_N2, z_ND, va_N2, subjects)
    assert (found.scores.arousal.n, found.scores.arousal.mae) == (40, None)
    assert found.scores.arousal.people.n_people == 0
    assert found.penalties["arousal"] is None


def test_embeddings_that_do_not_vary_have_no_correlation():
    z_ND, va_N2, subjects = planted(4, 10, noise=0.1)
    z_ND[:] = 3.0
    found = read(z_ND, va_N2, z_ND, va_N2, subjects)
    assert found.scores.valence.people.r is None
    assert found.scores.valence.mae is not None


def test_one_training_subject_is_enough():
    z_ND, va_N2, subjects = planted(1, 60, noise=0.1)
    test_z_MD, test_va_M2, _ = planted(2, 10, noise=0.1, seed=1)
    found = read(z_ND, va_N2, test_z_MD, test_va_M2, subjects)
    assert found.scores.mean_r is not None
    assert found.scores.mean_r > 0.98


def test_shapes_that_do_not_fit_are_refused():
    z_ND, va_N2, subjects = planted(4, 10, noise=0.1)
    with pytest.raises(ValueError, match="in the training part"):
        read(z_ND, va_N2[:-1], z_ND, va_N2, subjects)
    with pytest.raises(ValueError, match="one width, got 12 in training and 11 in test"):
        read(z_ND, va_N2, z_ND[:, 1:], va_N2, subjects)
    broken_ND = z_ND.copy()
    broken_ND[3, 0] = np.nan
    with pytest.raises(ValueError, match="row 3 of the test part"):
        read(z_ND, va_N2, broken_ND, va_N2, subjects)
