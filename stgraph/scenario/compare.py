"""Many scenarios side by side against one baseline: what each changes, and which is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stgraph.errors import DataError, InputError
from stgraph.report import Report
from stgraph.scenario._numbers import Estimate, number, signed
from stgraph.scenario.result import STATUS, ScenarioResult

# what is better, by words in the name of a metric; the first that is found counts
_MORE_IS_BETTER = ("mean speed", "within", "jobs", "reachable")
_LESS_IS_BETTER = ("vkt", "vht", "delay", "unserved", "od time", "co2", "longer")
_NEW = STATUS.index("new")


@dataclass(frozen=True, eq=False)
class CompareTables:
    """S scenarios against one baseline: a row per metric, a column per scenario.

    `low` and `high` are the range of `change`; NaN where there is none.
    """

    base: pd.DataFrame  # `unit` and `base` of every metric
    scenario: pd.DataFrame  # values with the scenario
    change: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    rank: pd.DataFrame  # 1 is best; scenarios that cannot be told apart share one; NaN: no better
    runs: pd.DataFrame  # a row per scenario: `run_id`, `method`, and the values of a sweep
    report: Report = field(default_factory=Report)

    def estimate(self, metric: str, name: str) -> Estimate:
        """Return a metric of a scenario with its range."""
        return Estimate(
            base=_number(self.base, metric, "base"),
            scenario=_number(self.scenario, metric, name),
            change=_number(self.change, metric, name),
            low=_number(self.low, metric, name),
            high=_number(self.high, metric, name),
            unit=self.unit(metric),
        )

    def unit(self, metric: str) -> str:
        """Return the unit of a metric."""
        return str(self.base["unit"].loc[metric])

    def step(self, metric: str) -> float:
        """Return what the baseline of a metric is rounded to: as the finest range."""
        estimates = [self.estimate(metric, str(name)) for name in self.change.columns]
        known = [e for e in estimates if math.isfinite(e.change)]
        ranged = [e.step for e in known if e.has_range and e.high > e.low]
        return min(ranged or [e.step for e in known], default=1.0)

    def to_frame(self) -> pd.DataFrame:
        """Return the changes as texts with units, ranges and ranks, for a terminal."""
        rows = []
        for metric in self.change.index:
            step = self.step(metric)
            row = {"metric": metric, "unit": self.unit(metric)}
            row["baseline"] = number(_number(self.base, metric, "base"), step)
            for name in self.change.columns:
                row[str(name)] = self._cell(metric, str(name))
            rows.append(row)
        names = [str(name) for name in self.change.columns]
        return pd.DataFrame(rows, columns=["metric", "unit", "baseline", *names])

    def _cell(self, metric: str, name: str) -> str:
        """Return a change with its range and rank."""
        estimate = self.estimate(metric, name)
        text = signed(estimate.change, estimate.step)
        if estimate.has_range:
            text += f" ({estimate.range})"
        if estimate.is_noise:
            return f"{text} noise"
        rank = _number(self.rank, metric, name)
        return f"{text} #{rank:.0f}" if np.isfinite(rank) else text


def _number(table: pd.DataFrame, row: str, column: str) -> float:
    """Return one number of a table."""
    return float(table[column].astype(float).loc[row])


def compare(results: Sequence[ScenarioResult]) -> CompareTables:
    """Put scenarios on one baseline side by side.

    Parameters
    ----------
    results
        S scenarios that were run with the same baseline, horizon and network.

    Returns
    -------
    CompareTables
        A column per scenario, named as the scenario; of several with one name also by run.

    Raises
    ------
    InputError
        There is no result.
    DataError
        Baselines, horizons or networks differ, or a run is there twice; the message names all.

    Notes
    -----
    A scenario is better than another only if the whole range of its change is. Its rank is one more
    than the number of scenarios that are better; a change without a range counts as certain.
    """
    found = list(results)
    if not found:
        raise InputError("`results` is empty; give at least one scenario that was run")
    report = check_comparable(found)
    report.raise_errors(DataError, title="these scenarios cannot be compared")
    names = _names(found)
    summaries = {
        name: result.summary.drop_duplicates("metric").set_index("metric")
        for name, result in zip(names, found, strict=True)
    }
    metrics = list(dict.fromkeys(metric for table in summaries.values() for metric in table.index))
    parts = {
        column: pd.DataFrame(
            {name: table[column].astype(float) for name, table in summaries.items()}, index=metrics
        )
        for column in ("base", "scenario", "change", "low", "high")
    }
    units = pd.concat([table["unit"] for table in summaries.values()])
    base = pd.DataFrame(
        {
            "unit": units[~units.index.duplicated()].reindex(metrics),
            "base": parts["base"].bfill(axis=1).iloc[:, 0],
        }
    )
    _note_bases(parts["base"], report)
    return CompareTables(
        base=base,
        scenario=parts["scenario"],
        change=parts["change"],
        low=parts["low"],
        high=parts["high"],
        rank=_rank(parts["change"], parts["low"], parts["high"]),
        runs=_runs(found, names),
        report=report,
    )


def check_comparable(results: Sequence[ScenarioResult]) -> Report:
    """Return what keeps scenarios from being compared with the first of them, as findings."""
    report = Report()
    first = results[0]
    todo = "run them anew on one baseline, or compare them one by one"
    for i, other in enumerate(results[1:], start=2):
        where = f"scenario {i} ({other.name!r}, run {other.run_id})"
        if other.run_id == first.run_id and other.name == first.name:
            report.error(where, "is the same run as the first one", "give each run once")
        if other.baseline != first.baseline:
            what = f"has the baseline {other.baseline!r}, the first one {first.baseline!r}"
            report.error(where, what, todo)
        if not other.time.equals(first.time):
            what = f"has the horizon {_span(other)}, the first one {_span(first)}"
            report.error(where, what, "give them the same horizon and step")
        if other.zone != first.zone:
            report.error(where, f"is in the zone {other.zone!r}, not {first.zone!r}", todo)
        _compare_networks(first, other, where, report)
        if other.method != first.method and "forecast" not in (other.method, first.method):
            what = f"was computed by {other.method}, the first one by {first.method}"
            report.warning(where, what, "part of the difference is that of the methods")
    return report


def _compare_networks(
    first: ScenarioResult, other: ScenarioResult, where: str, report: Report
) -> None:
    """Note if two scenarios were not run on the same network, leaving new segments aside."""
    ours, theirs = _segments(first), _segments(other)
    missing, more = len(ours - theirs), len(theirs - ours)
    if missing or more:
        parts = [f"lacks {missing} segments of it"] if missing else []
        parts += [f"has {more} others"] if more else []
        what = f"is on another network than the first one: it {' and '.join(parts)}"
        report.error(where, what, "run all scenarios on one road network")


def _segments(result: ScenarioResult) -> set[int]:
    """Return the ids of the segments that are there without the scenario."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # of a road network
    is_new = (result.links.status == _NEW).all(axis=0)
    if result.parent is not None:  # neither a new road nor a part of what was there
        is_new = result.parent != np.arange(len(edges))
    return set(edges.loc[~is_new, "segment_id"].tolist())


def _span(result: ScenarioResult) -> str:
    """Return first and last step of a horizon, and how many there are."""
    first, last = (result.time[i].tz_convert(result.zone) for i in (0, -1))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} in {len(result.time)} steps"


def _note_bases(base: pd.DataFrame, report: Report) -> None:
    """Note metrics whose baseline differs though it should be one."""
    size = base.abs().max(axis=1)
    spread = base.max(axis=1) - base.min(axis=1)
    for metric in base.index[(spread > 0.005 * size) & (size > 0)]:
        what = f"the baseline of {metric} differs by {100 * spread[metric] / size[metric]:.1f} %"
        report.warning("comparison", what, "changes are against the baseline of each scenario")


def _names(results: Sequence[ScenarioResult]) -> list[str]:
    """Return a name per scenario, with the run where several have the same."""
    names = [result.name for result in results]
    return [
        f"{result.name} ({result.run_id})" if names.count(result.name) > 1 else result.name
        for result in results
    ]


def _runs(results: Sequence[ScenarioResult], names: Sequence[str]) -> pd.DataFrame:
    """Return run, method and values of a sweep of each scenario."""
    rows = [
        {"run_id": result.run_id, "method": result.method, **swept_of(result)} for result in results
    ]
    return pd.DataFrame(rows, index=pd.Index(names, name="scenario"))


def swept_of(result: ScenarioResult) -> dict[str, object]:
    """Return the values that a parameter sweep gave a scenario, empty if it is of none."""
    swept = result.card.get("swept") or {}
    return {str(name): value for name, value in swept.items()} if isinstance(swept, dict) else {}


def _rank(change: pd.DataFrame, low: pd.DataFrame, high: pd.DataFrame) -> pd.DataFrame:
    """Return one more than how many scenarios are better for sure, per metric."""
    rank = pd.DataFrame(np.nan, index=change.index, columns=change.columns)
    for metric in change.index:
        sign = better(str(metric))
        if not sign or len(change.columns) < 2:
            continue
        ends = np.stack([(sign * table.loc[metric]).to_numpy(dtype=float) for table in (low, high)])
        value = (sign * change.loc[metric]).to_numpy(dtype=float)
        worst = np.where(np.isfinite(ends).all(axis=0), ends.min(axis=0), value)
        best = np.where(np.isfinite(ends).all(axis=0), ends.max(axis=0), value)
        ranks = 1.0 + (worst[None, :] > best[:, None]).sum(axis=1)
        rank.loc[metric] = np.where(np.isfinite(value), ranks, np.nan)
    return rank


def better(metric: str) -> int:
    """Return 1 if more of a metric is better, -1 if less is, 0 if neither."""
    name = metric.lower()
    if "operation" in name:
        return 0
    if any(word in name for word in _LESS_IS_BETTER):
        return -1
    return 1 if any(word in name for word in _MORE_IS_BETTER) else 0


def sweeps(tables: CompareTables, metric: str) -> dict[str, pd.DataFrame]:
    """Return how a metric depends on each number that a sweep varies, the others being the same.

    Parameters
    ----------
    tables
        What `compare` gave.
    metric
        A row of it.

    Returns
    -------
    dict[str, DataFrame]
        Per parameter with at least three values: `value` (rising), `change`, `low`, `high`, and
        `others`, the values of the other parameters in words.
    """
    given = tables.runs.drop(columns=["run_id", "method"])
    numeric = [
        name
        for name in given
        if pd.to_numeric(given[name], errors="coerce").notna().all() and given[name].nunique() > 2
    ]
    found = {}
    for name in numeric:
        others = given.drop(columns=name)
        words = [
            ", ".join(f"{key} {value}" for key, value in row.items())
            for _, row in others.iterrows()
        ]
        table = pd.DataFrame(
            {
                "value": given[name].astype(float).to_numpy(),
                "change": tables.change.loc[metric].to_numpy(dtype=float),
                "low": tables.low.loc[metric].to_numpy(dtype=float),
                "high": tables.high.loc[metric].to_numpy(dtype=float),
                "others": words,
            }
        )
        found[str(name)] = table.sort_values(["others", "value"], ignore_index=True)
    return found
