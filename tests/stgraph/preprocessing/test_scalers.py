"""Scalers look at observed values only, come back exactly, and never divide by zero."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.errors import InputError, UnknownNameError
from stgraph.preprocessing import scalers
from stgraph.preprocessing.scalers import (
    Scaler,
    fit_minmax,
    fit_robust,
    fit_scaler,
    fit_standard,
)

KINDS = ["standard", "minmax", "robust"]


def signal(n_steps: int = 40, n_nodes: int = 3, n_features: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, (n_steps, n_nodes, n_features))
    return (values * np.arange(1, n_nodes + 1)[:, None]).astype(np.float32)


def test_numbers_written_out() -> None:
    """Mean 3, deviation sqrt(2); minimum 1, range 4; median 3, quartiles 2 and 4."""
    values = np.array([1, 2, 3, 4, 5, 999], dtype=np.float32).reshape(6, 1, 1)
    mask = values < 900
    assert fit_standard(values, mask).center.tolist() == [[3]]
    assert fit_standard(values, mask).scale == pytest.approx(np.sqrt(2))
    assert (fit_minmax(values, mask).center, fit_minmax(values, mask).scale) == (1, 4)
    robust = fit_robust(values, mask)
    assert (robust.center[0, 0], robust.scale[0, 0]) == pytest.approx((3, 2 / 1.349))


def test_unobserved_values_change_nothing() -> None:
    """Neither NaN nor a fill value where the mask is False is looked at."""
    values = signal()
    mask = np.random.default_rng(1).random(values.shape) > 0.3
    for kind in KINDS:
        for per_node in (False, True):
            expected = fit_scaler(kind, np.where(mask, values, 0), mask, per_node=per_node)
            for fill in (np.nan, np.inf, 1e30):
                filled = np.where(mask, values, fill).astype(np.float32)
                scaler = fit_scaler(kind, filled, mask, per_node=per_node)
                assert scaler.to_dict() == expected.to_dict()


def test_agrees_with_numpy_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading piece by piece gives the numbers of the whole, pooled and per node."""
    monkeypatch.setattr(scalers, "_PIECE_VALUES", 7)
    values = signal() - 60
    mask = np.random.default_rng(2).random(values.shape) > 0.2
    seen = np.where(mask, values, np.nan)
    for axis, per_node in (((0, 1), False), (0, True)):
        standard = fit_standard(values, mask, per_node=per_node)
        np.testing.assert_allclose(standard.center.squeeze(), np.nanmean(seen, axis), rtol=1e-5)
        np.testing.assert_allclose(standard.scale.squeeze(), np.nanstd(seen, axis), rtol=1e-5)
        robust = fit_robust(values, mask, per_node=per_node)
        low, middle, high = np.nanquantile(seen, [0.25, 0.5, 0.75], axis)
        np.testing.assert_allclose(robust.center.squeeze(), middle, rtol=1e-5)
        np.testing.assert_allclose(robust.scale.squeeze(), (high - low) / 1.349, rtol=1e-5)
        minmax = fit_minmax(values, mask, per_node=per_node)
        np.testing.assert_allclose(minmax.center.squeeze(), np.nanmin(seen, axis))


def test_scaled_training_values_have_the_promised_shape() -> None:
    """Standard: mean 0, deviation 1; min-max: 0 to 1; per node for every node."""
    values = signal()
    mask = np.ones(values.shape, dtype=bool)
    standard = fit_standard(values, mask, per_node=True).transform(values)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-5)
    minmax = fit_minmax(values, mask, per_node=True).transform(values)
    assert (minmax.min(), minmax.max()) == pytest.approx((0, 1))


def test_constant_features_and_nodes() -> None:
    """A constant feature has scale 1, a constant node the scale of all nodes."""
    values = signal()
    values[..., 1] = 0.1
    values[:, 2, 0] = 5
    mask = np.ones(values.shape, dtype=bool)
    for kind in KINDS:
        pooled = fit_scaler(kind, values, mask)
        own = fit_scaler(kind, values, mask, per_node=True)
        assert pooled.scale[0, 1] == 1
        assert (own.scale[:, 1] == 1).all()
        assert own.scale[2, 0] == pooled.scale[0, 0]
        assert own.center[2, 0] == 5
        assert np.isfinite(own.transform(values)).all()


def test_night_zeros_do_not_break_the_robust_scaler() -> None:
    """With three zeros in four the interquartile range is 0; the deviation stands in."""
    values = np.zeros((40, 1, 1), dtype=np.float32)
    values[::5] = 100
    scaler = fit_robust(values, np.ones(values.shape, dtype=bool))
    assert scaler.scale[0, 0] == pytest.approx(40)


def test_nodes_with_few_values_get_the_pooled_numbers() -> None:
    """Nine values are too few, ten are enough, and none at all is no problem."""
    values = signal()
    mask = np.ones(values.shape, dtype=bool)
    mask[9:, 0] = False
    mask[10:, 1] = False
    mask[:, 2, 1] = False
    for kind in KINDS:
        pooled = fit_scaler(kind, values, mask)
        own = fit_scaler(kind, values, mask, per_node=True)
        assert own.center[0].tolist() == pooled.center[0].tolist()
        assert own.center[1].tolist() != pooled.center[0].tolist()
        assert own.center[2, 1] == pooled.center[0, 1]
        assert np.isfinite(own.scale).all()


@given(
    offset=st.floats(-1e5, 1e5),
    spread=st.floats(1e-2, 1e5),
    kind=st.sampled_from(KINDS),
    per_node=st.booleans(),
)
def test_inverse_undoes_transform(offset: float, spread: float, kind: str, per_node: bool) -> None:
    """Round trip over leading batch axes, to the resolution of float32."""
    values = (offset + spread * (signal() / 50 - 2)).astype(np.float32)
    scaler = fit_scaler(kind, values, np.ones(values.shape, dtype=bool), per_node=per_node)
    batch = np.stack([values, values])
    back = scaler.inverse(scaler.transform(batch))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, batch, atol=1e-6 * (abs(offset) + 10 * spread))


def test_arguments_stay_untouched() -> None:
    """Neither fitting nor scaling writes into what it was given."""
    values = signal()
    values[0, 0, 0] = np.nan
    before = values.copy()
    scaler = fit_robust(values, np.isfinite(values), per_node=True)
    scaler.inverse(scaler.transform(values))
    np.testing.assert_array_equal(values, before)
    assert np.isnan(scaler.transform(values)[0, 0, 0])


def test_large_offset_keeps_its_precision() -> None:
    """Kelvin-like numbers in float32 are summed in float64."""
    values = (1e6 + np.tile([0, 1], 500_000)).astype(np.float32).reshape(-1, 1, 1)
    scaler = fit_standard(values, np.ones(values.shape, dtype=bool))
    assert scaler.scale[0, 0] == pytest.approx(0.5, rel=1e-4)


def test_a_memory_map_is_read_and_stays_on_disk(tmp_path: Path) -> None:
    """Fitting on a memory map gives plain numbers equal to those of the array."""
    np.save(tmp_path / "values.npy", signal())
    values = np.load(tmp_path / "values.npy", mmap_mode="r")
    scaler = fit_standard(values, np.ones(values.shape, dtype=bool))
    assert scaler.to_dict() == fit_standard(signal(), np.ones(values.shape, dtype=bool)).to_dict()
    assert type(scaler.transform(values)) is np.ndarray


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind: str) -> None:
    """What is saved with a model comes back as exactly the same numbers."""
    values = signal()
    scaler = fit_scaler(kind, values, np.ones(values.shape, dtype=bool), per_node=True)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.kind == kind
    np.testing.assert_array_equal(again.center, scaler.center)
    np.testing.assert_array_equal(again.scale, scaler.scale)


def test_bad_scaler_input() -> None:
    """Wrong shapes, names, numbers and features without data are refused with the reason."""
    values, mask = signal(), np.ones((40, 3, 2), dtype=bool)
    with pytest.raises(UnknownNameError, match=r"'standart' \(did you mean 'standard'"):
        fit_scaler("standart", values, mask)
    with pytest.raises(InputError, match=r"same shape \(T, N, F\)"):
        fit_standard(values, mask[:-1])
    with pytest.raises(InputError, match="`mask` as bool"):
        fit_minmax(values, mask.astype(int))
    with pytest.raises(InputError, match=r"position \[1\] have no observed value"):
        fit_robust(values, mask & [True, False])
    with pytest.raises(InputError, match=r"position \[0, 1\] have no observed value"):
        fit_standard(values[:0], mask[:0])
    scaler = fit_standard(values, mask, per_node=True)
    with pytest.raises(InputError, match=r"shape \(40, 2, 2\) do not fit .* \(\.\.\., 3, 2\)"):
        scaler.transform(values[:, :2])
    with pytest.raises(InputError, match=r"\(\.\.\., N, 2\)"):
        fit_standard(values, mask).inverse(values[..., :1])
    with pytest.raises(InputError, match="`scale` above 0"):
        Scaler("standard", np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"must be \(1, F\) or \(N, F\)"):
        Scaler("standard", np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    "parts",
    [
        {"kind": "standard", "center": [[0.0]]},
        {"kind": "nonsense", "center": [[0.0]], "scale": [[1.0]]},
        {"kind": "standard", "center": [["a"]], "scale": [[1.0]]},
        {"kind": "standard", "center": [[0.0], [1.0, 2.0]], "scale": [[1.0]]},
        {"kind": "standard", "center": [[float("nan")]], "scale": [[1.0]]},
        {"kind": "standard", "center": None, "scale": None},
    ],
)
def test_bad_saved_scaler(parts: dict[str, object]) -> None:
    """A damaged checkpoint gives an error of ours."""
    with pytest.raises(InputError):
        Scaler.from_dict(parts)
