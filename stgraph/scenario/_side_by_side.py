"""The part of a report page that is about several scenarios: numbers, small maps, sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd

from stgraph.scenario._numbers import number
from stgraph.scenario._report_maps import Drawn, effect_words, period_label
from stgraph.scenario._sheet import WIDTH
from stgraph.scenario._svg_charts import Line, draw_chart
from stgraph.scenario._svg_map import SPEED
from stgraph.scenario.compare import CompareTables, better, sweeps

_SWEPT = ("VHT", "delay", "unserved trips")  # metrics that are drawn over a parameter
_MAX_LINES = 6  # of one chart


def side_by_side(tables: CompareTables, drawn: Sequence[Drawn], *, network: str) -> dict[str, Any]:
    """Return all that the template says about several scenarios.

    Parameters
    ----------
    tables
        What `compare` gave for them.
    drawn
        The scenarios in the same order; their own maps have the ids ``s1-...``, ``s2-...``.
    network
        Id of the network that lies under all maps.
    """
    names = [str(name) for name in tables.change.columns]
    rows = []
    for metric in tables.change.index:
        step = tables.step(metric)
        ranks = tables.rank.loc[metric].to_numpy(dtype=float)
        estimates = [tables.estimate(metric, name) for name in names]
        cells = [
            {"estimate": estimate, "rank": int(rank) if rank > 0 else 0}
            for estimate, rank in zip(estimates, ranks, strict=True)
        ]
        is_ranked = better(str(metric)) != 0 and len(set(ranks[ranks > 0])) > 1
        row = {"metric": metric, "unit": tables.unit(metric), "step": step, "cells": cells}
        rows.append(row | {"base": estimates[0].base, "is_ranked": is_ranked})
    period = _period(drawn)
    maps = [_small(part, name, i, period, network) for i, (part, name) in _numbered(drawn, names)]
    return {
        "names": names,
        "rows": rows,
        "findings": [str(finding) for finding in tables.report],
        "period": period_label(period),
        "maps": [m for m in maps if m],
        "sweeps": [chart for metric in _SWEPT for chart in _charts(tables, metric)],
    }


def _numbered(drawn: Sequence[Drawn], names: Sequence[str]) -> Any:
    """Return scenarios and names, counted from 1."""
    return enumerate(zip(drawn, names, strict=True), start=1)


def _period(drawn: Sequence[Drawn]) -> str:
    """Return the part of the day with the largest changes of speed that are sure."""
    sizes: dict[str, float] = {}
    for part in drawn:
        for period, links in part.peaks.items():
            size = float(links["d_speed"].abs().where(links["significant"], 0).sum())
            sizes[period] = sizes.get(period, 0.0) + size
    return max(sizes, key=lambda period: sizes[period])


def _small(part: Drawn, name: str, i: int, period: str, network: str) -> dict[str, str]:
    """Return a small map that shows again what the scenario's own map shows."""
    if part.sheet is None:
        return {}
    words = effect_words(part.peaks[period], SPEED)
    key = f"small-{i}"
    svg = (
        f'<svg class="map small" viewBox="0 0 {WIDTH} {part.sheet.height}" role="img" '
        f'aria-labelledby="{key}-t {key}-d"><title id="{key}-t">{escape(name)}</title>'
        f'<desc id="{key}-d">{escape(words)}</desc>'
        f'<use href="#{network}"/><use href="#s{i}-speed-{period}"/></svg>'
    )
    return {"name": name, "svg": svg, "words": words}


def _charts(tables: CompareTables, metric: str) -> list[dict[str, str]]:
    """Return a chart per parameter of a sweep: how a metric depends on it."""
    if metric not in tables.change.index:
        return []
    found: list[dict[str, str]] = []
    for parameter, table in sweeps(tables, metric).items():
        if not np.isfinite(table["change"]).any():
            continue
        x = np.unique(table["value"].to_numpy(dtype=float))
        lines = []
        for others, part in list(table.groupby("others", sort=True))[:_MAX_LINES]:
            values = part.drop_duplicates("value").set_index("value").reindex(x)
            lines.append(_line(str(others), values))
        base = tables.base["base"].astype(float).loc[metric]
        unit = tables.unit(metric)
        step = tables.step(metric)
        band = "; the band is the range" if any(line.low is not None for line in lines) else ""
        words = (
            f"Change of {metric} ({unit}) against the baseline ({number(float(base), step)}) over "
            f"{parameter}{band}."
        )
        svg = draw_chart(
            x,
            lines,
            ticks=[(float(v), number(float(v), _fine(v))) for v in x],
            unit=f"change of {metric}, {unit}; {parameter} →",
            name=f"sweep-{len(found)}-{_SWEPT.index(metric)}",
            title=f"{metric} over {parameter}",
            desc=words,
            markers=True,
        )
        found.append({"svg": svg, "words": words})
    return found


def _line(name: str, values: pd.DataFrame) -> Line:
    """Return one line of a sweep with its band, if it has a range."""
    y, low, high = (values[column].to_numpy(dtype=float) for column in ("change", "low", "high"))
    has_band = bool(np.isfinite(low).any())
    return Line(name[:16], "scn", y, low if has_band else None, high if has_band else None)


def _fine(value: object) -> float:
    """Return a step at which a parameter's value is shown whole."""
    text = f"{float(value):g}"  # type: ignore[arg-type]
    return 10.0 ** -len(text.partition(".")[2]) if "e" not in text else 1.0
