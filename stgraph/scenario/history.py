"""The past of a network, hour by hour: what is usual, what was closed, and how much days differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.graph import BoolArray, IntArray
from stgraph.scenario.od_times import full_hours
from stgraph.scenario.traffic import SegmentTraffic

Floats = npt.NDArray[np.float64]

_USUAL_VPH = 30.0  # a segment with this flow on other days, and none in an hour, was closed then
_OPEN = 0.99  # share of the capacity from which on a segment counts as open
_SHUT = 0.5  # share of the capacity below which a segment counts as closed


@dataclass(frozen=True, eq=False)
class History:
    """E segments in H hours of the past."""

    hours: pd.DatetimeIndex  # (H,) beginnings, UTC
    zone: str  # IANA name
    kind: IntArray  # (H,) 0..23 on working days, 24..47 on Saturdays and Sundays, local time
    speed_kmh: Floats  # (H, E) space-mean speeds, NaN where nobody drove
    flow_vph: Floats  # (H, E)
    share: Floats  # (H, E) of the capacity that was open
    usual_speed: Floats  # (48, E) medians of the hours of a kind in which it was open
    usual_flow: Floats

    @property
    def is_disturbed(self) -> BoolArray:
        """Whether something was closed or narrowed anywhere, (H,)."""
        return np.asarray((self.share < _OPEN).any(axis=1))

    @property
    def day(self) -> IntArray:
        """Number of the local day of every hour, (H,)."""
        date = self.hours.tz_convert(self.zone).tz_localize(None).normalize()
        return np.asarray((date - date[0]).days, dtype=np.int64)

    def noise(self) -> tuple[Floats, Floats]:
        """Return how much hours of a kind differ from the usual, in speed and flow, (48, E).

        Standard deviations over undisturbed hours, by the median of deviations.
        """
        calm = ~self.is_disturbed
        calm = calm if calm.sum() >= 48 else np.ones_like(calm)
        out = []
        for values, usual in (
            (self.speed_kmh, self.usual_speed),
            (self.flow_vph, self.usual_flow),
        ):
            off = np.abs(values - usual[self.kind])[calm]
            out.append(1.4826 * by_kind(off, self.kind[calm]))
        return out[0], out[1]


def build_history(traffic: SegmentTraffic) -> History:
    """Return the hours of a past, with what is usual.

    Parameters
    ----------
    traffic
        Speeds and flows of steps; hours that it covers in part are left out.

    Notes
    -----
    Speeds are those of all vehicles of an hour, of where they are (space means): flow / density of
    the steps that have both; where no flow is known, of the mean time.

    Without `capacity_share`, a segment was closed in hours without any flow in which it usually
    has some.
    """
    hours, hour_of = full_hours(traffic.time, traffic.zone)
    size = np.bincount(hour_of, minlength=len(hours))
    whole = np.flatnonzero(size == size.max())
    flow = _mean(traffic.flow_vph, hour_of, len(hours))
    speed = _mean_speed(traffic, hour_of, len(hours))
    kind = kinds_of(hours[whole], traffic.zone)
    speed, flow = speed[whole], flow[whole]
    if traffic.capacity_share is None:
        usual = by_kind(flow, kind)[kind]
        share = np.where((flow == 0) & (usual >= _USUAL_VPH), 0.0, 1.0)
    else:
        share = np.nan_to_num(_mean(traffic.capacity_share, hour_of, len(hours))[whole], nan=1.0)
    return History(
        hours[whole], traffic.zone, kind, speed, flow, share,
        _usual(speed, kind, share), _usual(flow, kind, share),
    )  # fmt: skip


def kinds_of(time: pd.DatetimeIndex, zone: str) -> IntArray:
    """Return the kinds of instants: 0..23 on working days, 24..47 on Saturdays and Sundays."""
    local = time.tz_convert(zone)
    is_weekend = local.day_of_week.to_numpy() >= 5
    return np.asarray(local.hour.to_numpy() + 24 * is_weekend, dtype=np.int64)


def by_kind(values: Floats, kind: IntArray) -> Floats:
    """Return medians of the hours of each kind, (48, E); a kind without hours has the other's."""
    out = np.full((48, values.shape[1]), np.nan)
    with np.errstate(all="ignore"):
        for one in np.unique(kind):
            rows = values[kind == one]
            some = np.isfinite(rows).any(axis=0)
            out[one, some] = np.nanmedian(rows[:, some], axis=0)
    other = np.roll(out, 24, axis=0)
    return np.where(np.isfinite(out), out, other)


def _usual(values: Floats, kind: IntArray, share: Floats) -> Floats:
    """Return medians over the hours in which a segment was open; of all where it never was."""
    calm = by_kind(np.where(share > _OPEN, values, np.nan), kind)
    return np.where(np.isfinite(calm), calm, by_kind(values, kind))


def is_shut(share: Floats) -> BoolArray:
    """Tell where a segment counts as closed."""
    return np.asarray(share < _SHUT)


def _mean_speed(traffic: SegmentTraffic, hour_of: IntArray, n_hours: int) -> Floats:
    """Return space-mean speeds of every hour, (H, E); NaN where nobody drove."""
    speed, flow = traffic.speed_kmh, traffic.flow_vph
    pace = np.divide(1.0, speed, out=np.full(speed.shape, np.nan), where=speed > 0)
    density = np.where(flow == 0, 0.0, flow * pace)  # nobody is anywhere, whatever the speed
    total = _mean(density, hour_of, n_hours)
    passing = _mean(np.where(np.isfinite(density), flow, np.nan), hour_of, n_hours)
    with np.errstate(divide="ignore", invalid="ignore"):
        weighted = np.where(total > 0, passing / total, np.nan)
        plain = 1.0 / _mean(pace, hour_of, n_hours)
    counted = np.isfinite(_mean(flow, hour_of, n_hours))
    return np.where(counted, weighted, plain)


def _mean(values: Floats, hour_of: IntArray, n_hours: int) -> Floats:
    """Return means over the known steps of every hour, (H, E)."""
    known = np.isfinite(values)
    total = np.zeros((n_hours, values.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, hour_of, np.where(known, values, 0.0))
    np.add.at(count, hour_of, known)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)
