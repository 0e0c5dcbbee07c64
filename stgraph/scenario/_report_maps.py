"""The maps of a report page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from stgraph.graph import BoolArray
from stgraph.scenario._numbers import number, signed
from stgraph.scenario._sheet import Box, Sheet, make_sheet
from stgraph.scenario._street_totals import direction_words, street_names
from stgraph.scenario._svg_map import (
    FLOW,
    SPEED,
    Quantity,
    draw_changes,
    draw_edits,
    draw_labels,
    draw_map,
)
from stgraph.scenario.periods import HOURS, LABELS
from stgraph.scenario.result import STATUS, ScenarioResult
from stgraph.scenario.tables import link_peaks

_MAJOR = ("motorway", "trunk", "primary", "secondary", "freeway", "ring", "arterial", "bridge")


@dataclass(frozen=True, eq=False)
class Drawn:
    """The links of a scenario and where they are on paper."""

    result: ScenarioResult
    peaks: dict[str, pd.DataFrame]  # per period E rows, with `street` and `title`
    sheet: Sheet | None
    touched: dict[str, str]  # segment id as text -> status that the operations give it

    def on(self, box: Box) -> Drawn:
        """Return the same on paper of another extent."""
        focus = focus_of(self.peaks, self.touched)
        return replace(self, sheet=make_sheet(self.result.roads, focus, box=box))


def prepare(result: ScenarioResult) -> Drawn:
    """Return the links of a scenario with names, and their place on a map of what changes."""
    rows = link_peaks(result)
    lines = result.roads.edges.geometry.to_numpy()  # type: ignore[union-attr]  # link_peaks checks
    words = direction_words(np.asarray(lines, dtype=object))
    peaks = {}
    for period, links in rows.groupby("period", sort=False):
        links = pd.DataFrame(links.drop(columns="geometry")).reset_index(drop=True)
        links["status"] = links["status"].astype(str)
        links["street"] = street_names(links, words)
        links["title"] = _titles(links)
        peaks[str(period)] = links
    edits = result.edits
    touched = dict(zip(edits["segment_id"].astype(str), edits["status"].astype(str), strict=True))
    sheet = make_sheet(result.roads, focus_of(peaks, touched))
    return Drawn(result, peaks, sheet, touched)


def focus_of(peaks: dict[str, pd.DataFrame], touched: dict[str, str]) -> BoolArray:
    """Tell which links a map has to show: those edited, and where something changes for sure."""
    first = next(iter(peaks.values()))
    focus = first["segment_id"].astype(str).isin(touched).to_numpy()
    for links in peaks.values():
        size = np.maximum(
            links["d_speed"].abs() / SPEED.classes[4], links["d_flow"].abs() / FLOW.classes[4]
        )
        focus = focus | (links["significant"] & (size > 1)).to_numpy(dtype=bool)
    return np.asarray(focus, dtype=np.bool_)


def _titles(links: pd.DataFrame) -> list[str]:
    """Return what a mouse is told on each link whose change is significant."""
    titles = [""] * len(links)
    columns = ["street", "speed_base", "speed_scn", "d_speed", "flow_base", "flow_scn", "d_flow"]
    sure = np.flatnonzero(links["significant"])
    told = links[columns].iloc[sure].itertuples(index=False)
    for position, (street, *values) in zip(sure, told, strict=True):
        v0, v1, dv, q0, q1, dq = (float(value) for value in values)
        titles[position] = (
            f"{street}: {number(v0)} → {number(v1)} km/h ({signed(dv)}), "
            f"{number(q0, 10)} → {number(q1, 10)} veh/h ({signed(dq, 10)})"
        )
    return titles


def effect_words(links: pd.DataFrame, quantity: Quantity) -> str:
    """Return how many links change, and which one most, beyond noise."""
    value = links[quantity.column].astype(float)
    sure = value.notna() & links["significant"] & (value.abs() > quantity.classes[4])
    sure &= ~links["status"].isin(["closed", "removed", "new"])
    closed = int((links["status"] == "closed").sum())
    tail = f" {closed} segment{'s' if closed != 1 else ''} closed." if closed else ""
    if not sure.any():
        what = "speed" if quantity is SPEED else "traffic"
        return f"No effect on {what} can be told from noise.{tail}"
    less, more = int((sure & (value < 0)).sum()), int((sure & (value > 0)).sum())
    most = int(np.argmax(value.abs().where(sure, -1).to_numpy()))
    step = 1.0 if quantity is SPEED else 10.0
    amount = f"{signed(float(value.iloc[most]), step)} {quantity.unit}"
    return (
        (
            f"{less} segment{'s' if less != 1 else ''} with {quantity.less} and {more} with "
            f"{quantity.more} by over {quantity.classes[4]:g} {quantity.unit}; most on "
            f"{links['street'].iloc[most]} ({amount}).{tail}"
        )
        .replace("with slower", "slower")
        .replace("with faster", "faster")
    )


def period_label(period: str) -> str:
    """Return a part of the day with its hours."""
    if period not in HOURS:
        return LABELS[period]
    first, end = HOURS[period]
    return f"{LABELS[period]}, {first}–{end} h"


def maps_of(drawn: Drawn, *, key: str, network: str) -> list[dict[str, Any]]:
    """Return a map of speed and one of flow per part of the day.

    Parameters
    ----------
    drawn
        The scenario.
    key
        What ids in the page begin with.
    network
        Id of the network that lies under all maps.
    """
    found = []
    for period, links in drawn.peaks.items():
        panel: dict[str, Any] = {"period": period, "label": period_label(period)}
        weight = links["d_speed"].abs().where(links["significant"], 0).sum()
        panel["weight"] = float(weight)
        for quantity in (SPEED, FLOW):
            words = effect_words(links, quantity)
            panel[f"{quantity.name}_words"] = words
            panel[quantity.name] = ""
            if drawn.sheet is None:
                continue
            changes = draw_changes(drawn.sheet, links, quantity)
            content = f'<g id="{key}-{quantity.name}-{period}">{changes}</g>'
            content += _labels(drawn, links, quantity)
            panel[quantity.name] = draw_map(
                drawn.sheet,
                content,
                network=network,
                name=f"{key}-map-{quantity.name}-{period}",
                title=f"Change of {quantity.name}, {panel['label']}",
                desc=words,
            )
        found.append(panel)
    return found


def _labels(drawn: Drawn, links: pd.DataFrame, quantity: Quantity) -> str:
    """Return the names of the streets that are edited, and of those that change most."""
    assert drawn.sheet is not None  # noqa: S101  # its caller has looked
    is_edited = links["segment_id"].astype(str).isin(drawn.touched).to_numpy()
    size = links[quantity.column].abs().where(links["significant"]).fillna(0).to_numpy(dtype=float)
    size[size <= quantity.classes[len(quantity.classes) // 2]] = 0  # not drawn, either
    most = [i for i in np.argsort(-size, kind="stable")[:40] if size[i] > 0]
    positions = [*np.flatnonzero(is_edited), *most]
    names = ["" if pd.isna(n) else str(n) for n in links["name"].iloc[positions]]
    return draw_labels(drawn.sheet, [int(i) for i in positions], names)


def edit_map(drawn: Drawn, *, key: str, network: str) -> str:
    """Return the map of what the operations change themselves."""
    if drawn.sheet is None:
        return ""
    links = next(iter(drawn.peaks.values()))
    ids = links["segment_id"].astype(str)
    status = np.array([drawn.touched.get(i, "normal") for i in ids], dtype=object)
    positions = np.flatnonzero(status != "normal")
    names = ["" if pd.isna(n) else str(n) for n in links["name"].iloc[positions]]
    counts = {word: int((status == word).sum()) for word in STATUS[1:]}
    words = ", ".join(f"{n} segments {word}" for word, n in counts.items() if n)
    content = draw_edits(drawn.sheet, status)
    content += draw_labels(drawn.sheet, [int(i) for i in positions], names)
    return draw_map(
        drawn.sheet,
        content,
        network=network,
        name=f"{key}-map-edits",
        title="What changes",
        desc=words or "no segment of the network changes",
    )


def is_major(result: ScenarioResult) -> BoolArray:
    """Tell which segments are drawn as main roads."""
    edges: pd.DataFrame = result.roads.edges  # type: ignore[assignment]  # link_peaks checks
    column = next((edges[n] for n in ("road_class", "highway") if n in edges), None)
    if column is None:
        return np.zeros(len(edges), dtype=np.bool_)
    return np.array([str(word).startswith(_MAJOR) for word in column], dtype=np.bool_)
