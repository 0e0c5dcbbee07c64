"""What simulated runs say of a scenario, on top of the forecast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stgraph.report import Report
from stgraph.scenario.demand_changes import HourlyDemand
from stgraph.scenario.estimating import Base, Estimate, Weather, assemble
from stgraph.scenario.fitting import City
from stgraph.scenario.od_times import full_hours
from stgraph.scenario.result import SOURCES
from stgraph.scenario.simulate import Simulated, simulate
from stgraph.scenario.states import Edited

Floats = npt.NDArray[np.float64]

_SIGMAS = 2.0


def estimate_simulation(
    city: City,
    edited: Edited,
    base: Base,
    demand: HourlyDemand,
    *,
    weather: Weather | None = None,
    zone: str,
    seed: int,
    report: Report,
    say: Callable[[str], None],
) -> Estimate:
    """Return the forecast with what changes between runs with and without a scenario.

    Parameters
    ----------
    city, edited, base, demand, weather
        As for `stgraph.scenario.estimating.estimate`.
    zone
        IANA name of the zone whose full hours are simulated.
    seed
        Of all chance.
    report
        Gets what the runs tell.
    say
        Is told how many runs are done.

    Notes
    -----
    Speeds change by the ratio, flows by the difference. The range is two standard errors of the
    difference of the runs.
    """
    hours, hour_of = full_hours(edited.time, zone)
    first = np.searchsorted(hour_of, np.arange(len(hours)))
    rows = demand.period_of_step[first]
    found = simulate(
        edited,
        demand.junctions,
        demand.baseline[rows],
        demand.scenario[rows],
        hours=hours,
        seed=seed,
        progress=lambda done, n: say(f"simulated {done} of {n} runs"),
    )
    report.extend(found.report)
    start, *others = (base,) if weather is None else weather.starts
    middle = _on_base(found, edited, start, hour_of, 0.0)
    members = [middle, *(_on_base(found, edited, start, hour_of, s) for s in (-_SIGMAS, _SIGMAS))]
    members += [_on_base(found, edited, other, hour_of, 0.0) for other in others]
    source = np.full(base.speed.shape, SOURCES.index("simulated"), dtype=np.int8)
    effects = assemble(city, edited, base, *middle, source, members, weather=weather)
    lost = float(found.unserved_base.sum()), float(found.unserved_scn.sum())
    return Estimate(effects, tuple(members[1:]), lost)


def _on_base(
    found: Simulated, edited: Edited, base: Base, hour_of: npt.NDArray[np.int64], sigmas: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return speeds and flows (T, E) of the scenario, so many standard errors off."""
    speed, flow = found.change("speed"), found.change("flow")
    after = speed.scn + sigmas * speed.error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(speed.base > 0, np.maximum(after, 1.0) / speed.base, 1.0)
    new = edited.parent < 0
    moved = np.nan_to_num(flow.difference + sigmas * flow.error)
    speeds = np.where(new, speed.scn[hour_of], base.speed * ratio[hour_of])
    flows = np.where(new, flow.scn[hour_of], np.maximum(base.flow + moved[hour_of], 0.0))
    return speeds.astype(np.float32), flows.astype(np.float32)
