"""Bring features to a common scale, fitted on observed training values only, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stgraph.errors import InputError, UnknownNameError, nearest_name
from stgraph.graph import BoolArray, FloatArray, IntArray

Float64Array = npt.NDArray[np.float64]

_MIN_OBSERVED = 10  # nodes with fewer observed values use the numbers of all nodes together
_PIECE_VALUES = 2_000_000  # values read at once, so that a memory map is never read whole
_IQR_OF_NORMAL = 1.349  # interquartile range of the normal distribution with deviation 1
_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Numbers that scale values by ``(values - center) / scale``, and back.

    Parameters
    ----------
    kind
        How it was fitted: ``standard``, ``minmax`` or ``robust``.
    center
        (1, F) for all nodes or (N, F) per node, in the units of the features.
    scale
        Same shape, above 0.

    Raises
    ------
    InputError
        Shapes that do not fit, numbers that are not finite, or a scale that is not above 0.
    """

    kind: str
    center: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        """Bring the numbers to float32 and check them."""
        for name in ("center", "scale"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        if self.center.ndim != 2 or self.center.shape != self.scale.shape:
            raise InputError(
                f"`center` has shape {self.center.shape} and `scale` {self.scale.shape}; both "
                "must be (1, F) or (N, F)"
            )
        numbers_fit = np.isfinite(self.center).all() and np.isfinite(self.scale).all()
        if not (numbers_fit and (self.scale > 0).all()):
            raise InputError("`center` and `scale` must be finite and `scale` above 0")

    def transform(self, values: npt.ArrayLike) -> FloatArray:
        """Return (..., N, F) values in scaled units as a new float32 array; NaN stays NaN."""
        array = self._checked(values)
        scaled: FloatArray = np.subtract(array, self.center, dtype=np.float32)
        scaled /= self.scale
        return scaled

    def inverse(self, values: npt.ArrayLike) -> FloatArray:
        """Return scaled (..., N, F) values in input units as a new float32 array."""
        array = self._checked(values)
        unscaled: FloatArray = np.multiply(array, self.scale, dtype=np.float32)
        unscaled += self.center
        return unscaled

    def to_dict(self) -> dict[str, Any]:
        """Return the scaler as JSON text and numbers only."""
        return {"kind": self.kind, "center": self.center.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> Scaler:
        """Return the scaler that `to_dict` described.

        Raises
        ------
        InputError
            Parts are missing, unknown, or no numbers.
        """
        if set(parts) != {"kind", "center", "scale"}:
            raise InputError(f"a scaler has `kind`, `center` and `scale`, given: {sorted(parts)}")
        if parts["kind"] not in _FITS:
            raise _unknown(parts["kind"])
        try:
            return cls(parts["kind"], np.array(parts["center"]), np.array(parts["scale"]))
        except (TypeError, ValueError) as error:
            raise InputError(f"`center` or `scale` of a scaler cannot be used: {error}") from error

    def _checked(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the values as a plain array whose last axes fit the scaler."""
        array = np.asarray(values)
        n_nodes, n_features = self.center.shape
        fits = array.ndim >= 2 and array.shape[-1] == n_features
        if not fits or n_nodes not in (1, array.shape[-2]):
            raise InputError(
                f"values of shape {array.shape} do not fit a scaler for "
                f"(..., {'N' if n_nodes == 1 else n_nodes}, {n_features})"
            )
        return array


def fit_scaler(kind: str, values: FloatArray, mask: BoolArray, *, per_node: bool = False) -> Scaler:
    """Fit a scaler by name on observed values.

    Parameters
    ----------
    kind
        ``standard``, ``minmax`` or ``robust``.
    values
        (T, N, F) values of the training steps only; may be a memory map, which is read in pieces.
    mask
        (T, N, F), True = observed; nothing else is looked at.
    per_node
        Give every node its own numbers. Nodes with fewer than 10 observed values get those of
        all nodes together; nodes that never change get the scale of all nodes.

    Returns
    -------
    Scaler
        With numbers of shape (1, F), or (N, F) with `per_node`. A constant feature has scale 1.

    Raises
    ------
    UnknownNameError
        No scaler of that name.
    InputError
        Shapes that do not fit, or a feature without any observed value.
    """
    if kind not in _FITS:
        raise _unknown(kind)
    return _FITS[kind](values, mask, per_node=per_node)


def fit_standard(values: FloatArray, mask: BoolArray, *, per_node: bool = False) -> Scaler:
    """Fit mean and standard deviation; parameters and errors as in `fit_scaler`."""
    pooled, own, count = _standard_numbers(values, mask)
    return _build("standard", pooled, own, count, per_node=per_node)


def fit_minmax(values: FloatArray, mask: BoolArray, *, per_node: bool = False) -> Scaler:
    """Fit minimum and range, so that observed values lie in 0..1; as in `fit_scaler`."""
    _check(values, mask)
    count = np.zeros(values.shape[1:])
    low, high = np.full(count.shape, np.inf), np.full(count.shape, -np.inf)
    for piece, seen in _pieces(values, mask):
        count += seen.sum(axis=0)
        low = np.minimum(low, np.where(seen, piece, np.inf).min(axis=0))
        high = np.maximum(high, np.where(seen, piece, -np.inf).max(axis=0))
    _check_observed(count)
    all_low, all_high = low.min(axis=0, keepdims=True), high.max(axis=0, keepdims=True)
    own = (low, np.where(count > 0, high, 0) - np.where(count > 0, low, 0))
    return _build("minmax", (all_low, all_high - all_low), own, count, per_node=per_node)


def fit_robust(values: FloatArray, mask: BoolArray, *, per_node: bool = False) -> Scaler:
    """Fit median and interquartile range / 1.349, blind to outliers; as in `fit_scaler`.

    For normal values the scale is the standard deviation. Where more than half of the values are
    the same (night zeros) the interquartile range is 0; there the standard deviation is taken.
    """
    pooled_standard, own_standard, count = _standard_numbers(values, mask)
    pooled = _robust_numbers(_pooled_quartiles(values, mask), pooled_standard[1])
    if not per_node:
        return _build("robust", pooled, pooled, count, per_node=False)
    own = _robust_numbers(_node_quartiles(values, mask), own_standard[1])
    return _build("robust", pooled, own, count, per_node=True)


_FITS: dict[str, Callable[..., Scaler]] = {
    "standard": fit_standard,
    "minmax": fit_minmax,
    "robust": fit_robust,
}


def _unknown(kind: object) -> UnknownNameError:
    """Return the error for a scaler that does not exist."""
    return UnknownNameError(
        f"no scaler is called {kind!r}{nearest_name(kind, _FITS)}; there are {sorted(_FITS)}"
    )


def _check(values: FloatArray, mask: BoolArray) -> None:
    """Raise unless values and mask have the same shape (T, N, F)."""
    if values.ndim != 3 or mask.shape != values.shape or mask.dtype != bool:
        raise InputError(
            f"`values` {values.shape} and `mask` {mask.shape} ({mask.dtype}) must have the same "
            "shape (T, N, F), `mask` as bool"
        )


def _check_observed(count: Float64Array) -> None:
    """Raise if a feature has no observed value at all."""
    never = np.flatnonzero(count.sum(axis=0) == 0)
    if never.size:
        raise InputError(
            f"feature(s) at position {never.tolist()} have no observed value in the training "
            "steps; drop them or train on more steps"
        )


def _pieces(values: FloatArray, mask: BoolArray) -> Iterator[tuple[Float64Array, BoolArray]]:
    """Yield (t, N, F) pieces in float64, and where they are observed numbers."""
    rows = max(1, _PIECE_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        piece = np.asarray(values[start : start + rows], dtype=np.float64)
        yield piece, np.asarray(mask[start : start + rows]) & np.isfinite(piece)


def _standard_numbers(
    values: FloatArray, mask: BoolArray
) -> tuple[tuple[Float64Array, Float64Array], tuple[Float64Array, Float64Array], Float64Array]:
    """Return mean and deviation of all nodes and of each node, and its observed values."""
    _check(values, mask)
    count, mean, square = np.zeros((3, *values.shape[1:]))
    for piece, seen in _pieces(values, mask):
        n_new = seen.sum(axis=0)
        new_mean = np.where(seen, piece, 0).sum(axis=0) / np.maximum(n_new, 1)
        new_square = (np.where(seen, piece - new_mean, 0) ** 2).sum(axis=0)
        count, mean, square = _merge_moments(
            np.stack([count, n_new]), np.stack([mean, new_mean]), np.stack([square, new_square])
        )
    _check_observed(count)
    n_all, pooled_mean, pooled_square = _merge_moments(count, mean, square)
    pooled = (pooled_mean[None], np.sqrt(pooled_square / n_all)[None])
    return pooled, (mean, np.sqrt(square / np.maximum(count, 1))), count


def _merge_moments(
    count: Float64Array, mean: Float64Array, square: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Merge count, mean and sum of squared deviations along the first axis (Chan et al. 1979)."""
    total = count.sum(axis=0)
    merged = (count * mean).sum(axis=0) / np.maximum(total, 1)
    return total, merged, (square + count * (mean - merged) ** 2).sum(axis=0)


def _build(
    kind: str,
    pooled: tuple[Float64Array, Float64Array],
    own: tuple[Float64Array, Float64Array],
    count: Float64Array,
    *,
    per_node: bool,
) -> Scaler:
    """Return the scaler, with own numbers where a node has enough values that vary."""
    center, scale = pooled
    scale = np.where(_varies(center, scale), scale, 1)
    if per_node:
        enough = count >= _MIN_OBSERVED
        center = np.where(enough, own[0], center)
        scale = np.where(enough & _varies(*own), own[1], scale)
    return Scaler(kind, center.astype(np.float32), scale.clip(max=_FLOAT32.max).astype(np.float32))


def _varies(center: Float64Array, scale: Float64Array) -> BoolArray:
    """Tell where a scale is above the resolution that float32 has around the center."""
    smallest = np.maximum(_FLOAT32.eps * np.abs(center), _FLOAT32.tiny)
    return np.asarray(scale > smallest)


def _robust_numbers(
    quartiles: Float64Array, deviation: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return center and scale from (3, N, F) quartiles; the deviation where the range is 0."""
    scale = (quartiles[2] - quartiles[0]) / _IQR_OF_NORMAL
    return quartiles[1], np.where(_varies(quartiles[1], scale), scale, deviation)


def _node_quartiles(values: FloatArray, mask: BoolArray) -> Float64Array:
    """Return (3, N, F) quartiles of every node, 0 where nothing is observed."""
    quartiles = np.zeros((3, *values.shape[1:]))
    width = max(1, _PIECE_VALUES // max(1, len(values) * values.shape[2]))
    for start in range(0, values.shape[1], width):
        nodes = slice(start, start + width)
        piece = np.array(values[:, nodes], dtype=np.float32)
        seen = np.asarray(mask[:, nodes]) & np.isfinite(piece)
        piece[~seen] = np.inf
        piece.sort(axis=0)
        count = seen.sum(axis=0)
        for i, share in enumerate((0.25, 0.5, 0.75)):
            rank = share * np.maximum(count - 1, 0)
            low, high = (
                np.take_along_axis(piece, bound(rank).astype(np.int64)[None], axis=0)[0]
                for bound in (np.floor, np.ceil)
            )
            with np.errstate(invalid="ignore"):  # inf - inf where nothing is observed
                between = low + (rank - np.floor(rank)) * (high.astype(np.float64) - low)
            quartiles[i, nodes] = np.where(count > 0, between, 0)
    return quartiles


def _pooled_quartiles(values: FloatArray, mask: BoolArray) -> Float64Array:
    """Return the exact (3, 1, F) quartiles of all nodes together in two readings.

    A float32 has 32 bits that can be put in the order of the numbers. The first reading counts
    the upper 16 bits, the second the lower 16 bits of those near a wanted rank.
    """
    n_features = values.shape[2]
    upper = np.zeros((n_features, 1 << 16), dtype=np.int64)
    for feature, keys in _ordered_keys(values, mask):
        upper[feature] += np.bincount(keys >> 16, minlength=1 << 16)
    cumulated = upper.cumsum(axis=1)
    rank = np.multiply.outer([0.25, 0.5, 0.75], cumulated[:, -1] - 1)  # (3, F)
    ranks = np.stack([np.floor(rank), np.ceil(rank)]).astype(np.int64)  # (2, 3, F)
    bins = np.empty_like(ranks)
    for feature in range(n_features):
        bins[..., feature] = np.searchsorted(cumulated[feature], ranks[..., feature], "right")
    wanted = [np.unique(bins[..., feature]) for feature in range(n_features)]
    lower = [np.zeros((len(bin_), 1 << 16), dtype=np.int64) for bin_ in wanted]
    for feature, keys in _ordered_keys(values, mask):
        for i, bin_ in enumerate(wanted[feature]):
            near = keys[keys >> 16 == bin_] & 0xFFFF
            lower[feature][i] += np.bincount(near, minlength=1 << 16)

    found = np.empty(ranks.shape, dtype=np.uint32)
    for place in np.ndindex(*ranks.shape):
        feature, bin_ = place[2], bins[place]
        before = cumulated[feature, bin_] - upper[feature, bin_]
        counts = lower[feature][np.searchsorted(wanted[feature], bin_)].cumsum()
        found[place] = (bin_ << 16) + np.searchsorted(counts, ranks[place] - before, "right")
    low, high = _from_keys(found).astype(np.float64)
    between: Float64Array = low + (rank - np.floor(rank)) * (high - low)
    return between[:, None]


def _ordered_keys(values: FloatArray, mask: BoolArray) -> Iterator[tuple[int, IntArray]]:
    """Yield feature and whole numbers in the order of its observed values, piece by piece."""
    for piece, seen in _pieces(values, mask):
        for feature in range(values.shape[2]):
            numbers = piece[..., feature][seen[..., feature]].astype(np.float32) + np.float32(0)
            bits = numbers.view(np.uint32)
            keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
            yield feature, keys.astype(np.int64)


def _from_keys(keys: npt.NDArray[np.uint32]) -> FloatArray:
    """Return the numbers whose keys are given."""
    bits = np.where(keys >> 31, keys & np.uint32((1 << 31) - 1), ~keys)
    return bits.astype(np.uint32).view(np.float32)
