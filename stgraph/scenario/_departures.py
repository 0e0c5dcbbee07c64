"""Draw who departs when, so that two demands share all trips that they can."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stgraph.graph import IntArray

Floats = npt.NDArray[np.float64]


class Platoons(NamedTuple):
    """Platoons in the order of their departure."""

    time_s: Floats  # (M,) seconds since the first hour began
    origin: IntArray  # (M,) positions of zones
    destination: IntArray  # (M,)


def draw(
    baseline: Floats, scenario: Floats, *, platoon: int, seed: tuple[int, ...]
) -> tuple[Platoons, Platoons]:
    """Draw departures of both demands, Poisson distributed, with as many in common as can be.

    Parameters
    ----------
    baseline, scenario
        (H, Z, Z) cars per hour, from row to column.
    platoon
        Cars that depart together.
    seed
        The same seed and baseline give the same departures in the baseline; where the scenario
        has the same demand it has the same departures, too.

    Returns
    -------
    tuple
        Departures in the baseline and in the scenario.
    """
    before, after = [], []
    for hour, (now, then) in enumerate(zip(baseline, scenario, strict=True)):
        rng, other = (
            np.random.default_rng((*seed, hour, 0)),
            np.random.default_rng((*seed, hour, 1)),
        )
        trips = _poisson(now / platoon, rng, hour)
        before.append(trips)
        # thin what shrinks, add what grows: Poisson again, with the mean of the scenario
        keep = np.divide(then, now, out=np.ones(now.shape), where=now > then)
        kept = other.random(len(trips.time_s)) < keep[trips.origin, trips.destination]
        added = _poisson(np.clip(then - now, 0, None) / platoon, other, hour)
        after += [Platoons(*(column[kept] for column in trips)), added]
    return _join(before), _join(after)


def _poisson(mean: Floats, rng: np.random.Generator, hour: int) -> Platoons:
    """Return the platoons of an hour."""
    counts = rng.poisson(mean)
    origin, destination = np.nonzero(counts)
    times = counts[origin, destination]
    origin, destination = np.repeat(origin, times), np.repeat(destination, times)
    return Platoons((hour + rng.random(len(origin))) * 3600, origin, destination)


def _join(parts: list[Platoons]) -> Platoons:
    """Return all parts as one, in the order of departure."""
    time, origin, destination = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(time, kind="stable")
    return Platoons(time[order], origin[order], destination[order])
