"""Values between sensors by weighted means: in space, and along the roads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from stgraph.graph import BoolArray, FloatArray, IntArray
from stgraph.kriging.surroundings import STRAIGHT, Sites, Surroundings, straight_m

_WIDTHS_M = (150.0, 300.0, 600.0, 1000.0, 1500.0, 2500.0, 4000.0, 8000.0)
_GAINS = (0.0, 0.003, 0.03, 0.1, 0.3, 1.0)
_PRIORS = (1e-6, 1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FACTORS = (0.1, 0.3, 0.6, 1.0)
_SHARES = (0.0, 0.5, 1.0)
_ROUNDS = 2
_CLASS_POOLING = 3.0  # sensors of all classes against those of the class itself


@dataclass(frozen=True)
class Kernel:
    """How much a sensor says about a place, by relation and length of the way."""

    width_m: tuple[float, float, float] = (1000.0, 1000.0, 1000.0)  # exp(-length / width)
    gain: tuple[float, float, float] = (1.0, 1.0, 0.03)  # of each relation
    other_class: float = 1.0  # factor where the road classes differ
    other_way: float = 1.0  # factor where the bearings differ by more than 90 degrees
    prior: float = 0.01  # weight of the median of all sensors
    relative: float = 0.0  # share of the ratio of speed limits that is taken over

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: dict[str, Any]) -> Kernel:
        """Return the kernel that `to_dict` described."""
        lists = {name: tuple(v) for name, v in numbers.items() if isinstance(v, list | tuple)}
        return cls(**{**numbers, **lists})


@dataclass(frozen=True)
class Hiding:
    """Some sensors as places whose value is known, seen from the other sensors only."""

    hidden: IntArray  # (M,) positions among all sensors
    around: Surroundings  # (M, K) of the hidden ones
    visible: BoolArray  # (S,)


def hide(among: Surroundings, hidden: IntArray, *, n_each: int) -> Hiding:
    """Return what is left around some sensors when they are hidden."""
    visible = np.ones(len(among.sensors), dtype=bool)
    visible[hidden] = False
    return Hiding(hidden, among.take(hidden).thin(visible, n_each), visible)


def draw_hidings(
    among: Surroundings,
    allowed: IntArray,
    *,
    shares: Sequence[float],
    generator: np.random.Generator,
    n_each: int,
    at_most: int = 400,
) -> list[Hiding]:
    """Return hidings of random shares of the allowed sensors; the others stay hidden throughout."""
    hidings = []
    for share in shares:
        n = min(max(1, round(share * len(allowed))), len(allowed) - 1)
        drawn = generator.permutation(allowed)[:n]
        visible = np.zeros(len(among.sensors), dtype=bool)
        visible[allowed] = True
        visible[drawn] = False
        some = np.sort(drawn[:at_most])
        hidings.append(Hiding(some, among.take(some).thin(visible, n_each), visible))
    return hidings


def weigh(kernel: Kernel, around: Surroundings) -> FloatArray:
    """Return the logarithms of the weights of the sensors around each place, (M, K)."""
    width = np.array(kernel.width_m)[around.relation]
    with np.errstate(divide="ignore"):
        gain = np.log(np.array(kernel.gain))[around.relation]
        weight = gain - around.length_m / width
    differs = differs_in_class(around)
    weight = weight + np.where(differs, np.log(kernel.other_class), 0.0)
    weight = weight + np.where(runs_against(around), np.log(kernel.other_way), 0.0)
    return np.where(around.sensor >= 0, weight, -np.inf).astype(np.float32)


def differs_in_class(around: Surroundings) -> BoolArray:
    """Tell where place and sensor are on roads of different classes, (M, K)."""
    ours, theirs = around.places.group[:, None], around.sensors.group[around.sensor]
    return np.asarray((ours >= 0) & (theirs >= 0) & (ours != theirs))


def runs_against(around: Surroundings) -> BoolArray:
    """Tell where traffic at the sensor goes another way than at the place, (M, K)."""
    turn = around.places.bearing[:, None] - around.sensors.bearing[around.sensor]
    return np.asarray(np.cos(np.radians(turn)) < 0)  # False where a bearing is unknown


def ratio_to(around: Surroundings, share: float) -> FloatArray:
    """Return what a sensor's value is multiplied with at a place, (M, K): 1 where unknown."""
    ratio = around.places.reference[:, None] / around.sensors.reference[around.sensor]
    return np.where(np.isfinite(ratio), ratio, 1.0).astype(np.float32) ** np.float32(share)


def area_values(
    values: FloatArray, around: Surroundings, visible: BoolArray, share: float
) -> FloatArray:
    """Return what is usual in the area at each step, (T, M): the median, more of the own class."""
    reference, group = around.sensors.reference, around.sensors.group
    typical = np.nanmean(reference) if np.isfinite(reference).any() else 1.0
    relative = np.where(np.isfinite(reference), reference / typical, 1.0)
    relative = np.asarray(np.power(relative, share), dtype=np.float32)
    seen = (values[:, visible] / relative[visible]).astype(np.float32)
    of_all = median_of(seen)  # (T,) NaN where nothing is known
    result = np.repeat(of_all[:, None], len(around), axis=1)
    for code in np.unique(around.places.group[around.places.group >= 0]):
        members = seen[:, group[visible] == code]
        n = np.isfinite(members).sum(axis=1)
        own = np.where(n > 0, median_of(members), of_all)
        trust = n / (n + _CLASS_POOLING)
        mixed = trust * own + (1 - trust) * of_all
        result[:, around.places.group == code] = mixed[:, None]
    ours = np.where(np.isfinite(around.places.reference), around.places.reference / typical, 1.0)
    return np.asarray(result * ours**share, dtype=np.float32)


def median_of(values: FloatArray) -> FloatArray:
    """Return the median of what is known in each row, NaN where nothing is."""
    known = np.isfinite(values)
    n = known.sum(axis=1)
    if not values.shape[1]:
        return np.full(len(values), np.nan, dtype=np.float32)
    ordered = np.sort(np.where(known, values, np.float32(np.inf)), axis=1)
    rows = np.arange(len(values))
    low = ordered[rows, np.maximum(n - 1, 0) // 2]
    high = ordered[rows, np.minimum(n // 2, values.shape[1] - 1)]
    return np.where(n > 0, (low + high) / 2, np.float32(np.nan)).astype(np.float32)


def tokens_of(
    values: FloatArray, around: Surroundings, visible: BoolArray, kernel: Kernel
) -> tuple[FloatArray, FloatArray]:
    """Return the values that speak for each place and their log weights, (T, M, K + 1) each.

    The last one is the usual value of the area. Missing readings have weight -inf.
    """
    told = values[:, around.sensor] * ratio_to(around, kernel.relative)
    area = area_values(values, around, visible, kernel.relative)
    told = np.concatenate([told, area[..., None]], axis=-1)
    weight = np.concatenate(
        [weigh(kernel, around), np.full((len(around), 1), np.log(kernel.prior), np.float32)], axis=1
    )
    known = np.isfinite(told)
    return np.where(known, told, np.float32(0)), np.where(known, weight, -np.inf)


def mix(told: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weighted mean of what speaks for each place, and how far it differs, (T, M) each.

    Half of the deviation's weights are equal: where one sensor speaks almost alone, that the
    others are not heard does not make the mean any surer.
    """
    top = weight.max(axis=-1, keepdims=True)
    share = np.exp(weight - np.where(np.isfinite(top), top, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = share / share.sum(axis=-1, keepdims=True)
        there = np.isfinite(weight)
        even = (share + there / there.sum(axis=-1, keepdims=True)) / 2
    mean = (share * told).sum(axis=-1)
    spread = np.sqrt((even * np.square(told - mean[..., None])).sum(axis=-1))
    return mean.astype(np.float32), spread.astype(np.float32)


def interpolate(
    values: FloatArray, around: Surroundings, visible: BoolArray, kernel: Kernel
) -> FloatArray:
    """Return the weighted mean of what the sensors around each place say, (T, M)."""
    return mix(*tokens_of(values, around, visible, kernel))[0]


def fit_kernel(values: FloatArray, hidings: Sequence[Hiding]) -> tuple[Kernel, float]:
    """Return the kernel with the smallest absolute error at hidden sensors, and that error.

    Parameters
    ----------
    values
        (T, S) readings, NaN where missing.
    hidings
        Which sensors are guessed from which others.
    """

    def error(kernel: Kernel) -> float:
        return _mean_error(
            values, hidings, lambda h: interpolate(values, h.around, h.visible, kernel)
        )

    sensors = hidings[0].around.sensors
    best = Kernel()
    lowest = error(best)
    for _ in range(_ROUNDS):
        for candidates in _steps(_what_is_known(sensors)):
            for candidate in candidates(best):
                found = error(candidate)
                if found < lowest:
                    best, lowest = candidate, found
    return best, lowest


def _what_is_known(sensors: Sites) -> dict[str, bool]:
    """Tell which attributes of the sensors differ, so that something hangs on them."""
    return {
        "relative": bool(np.unique(sensors.reference[np.isfinite(sensors.reference)]).size > 1),
        "other_class": bool(np.unique(sensors.group[sensors.group >= 0]).size > 1),
        "other_way": bool(np.isfinite(sensors.bearing).any()),
    }


def _steps(known: dict[str, bool]) -> Iterator[Callable[[Kernel], list[Kernel]]]:
    """Yield, one number of the kernel after the other, the kernels to try."""
    for relation in range(3):
        yield lambda k, r=relation: [  # type: ignore[misc]
            replace(k, width_m=_with(k.width_m, r, w)) for w in _WIDTHS_M
        ]
    for relation in (1, 2):
        yield lambda k, r=relation: [  # type: ignore[misc]
            replace(k, gain=_with(k.gain, r, g)) for g in _GAINS
        ]
    yield lambda k: [replace(k, prior=p) for p in _PRIORS]
    if known["relative"]:
        yield lambda k: [replace(k, relative=s) for s in _SHARES]
    if known["other_class"]:
        yield lambda k: [replace(k, other_class=f) for f in _FACTORS]
    if known["other_way"]:
        yield lambda k: [replace(k, other_way=f) for f in _FACTORS]


def _with(
    numbers: tuple[float, float, float], position: int, value: float
) -> tuple[float, float, float]:
    """Return the numbers with one of them replaced."""
    changed = list(numbers)
    changed[position] = value
    return (changed[0], changed[1], changed[2])


def _mean_error(
    values: FloatArray, hidings: Sequence[Hiding], estimate: Callable[[Hiding], FloatArray]
) -> float:
    """Return the mean absolute error at hidden sensors, every hiding counting the same."""
    errors = []
    for hiding in hidings:
        truth = values[:, hiding.hidden]
        gap = np.abs(estimate(hiding) - truth)
        errors.append(np.nanmean(np.where(np.isfinite(truth), gap, np.nan)))
    return float(np.mean(errors))


# ------------------------------------------------------------------- the baseline, in space only

_POWERS = (0.5, 1.0, 1.5, 2.0, 3.0)
_COUNTS = (2, 4, 8, 12, 24)


@dataclass(frozen=True)
class InverseDistance:
    """Inverse-distance weighting of the nearest sensors in a straight line (Shepard, 1968)."""

    power: float = 1.0
    n_sensors: int = 8

    def __call__(self, values: FloatArray, around: Surroundings) -> FloatArray:
        """Return the weighted mean at each place, (T, M)."""
        columns = np.flatnonzero(around.relation == STRAIGHT)[: self.n_sensors]
        sensor = around.sensor[:, columns]
        length = np.maximum(straight_m(around)[:, columns], 1.0)
        told = values[:, sensor]
        weight = np.where((sensor >= 0) & np.isfinite(told), length**-self.power, 0)
        total = weight.sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return np.asarray((weight * np.where(weight > 0, told, 0)).sum(axis=-1) / total)


def fit_inverse_distance(
    values: FloatArray, hidings: Sequence[Hiding]
) -> tuple[InverseDistance, float]:
    """Return the power and number of sensors with the smallest error at hidden sensors."""
    tried = [InverseDistance(p, n) for p in _POWERS for n in _COUNTS]
    errors = [_mean_error(values, hidings, lambda h, t=t: t(values, h.around)) for t in tried]  # type: ignore[misc]
    best = int(np.argmin(errors))
    return tried[best], errors[best]
