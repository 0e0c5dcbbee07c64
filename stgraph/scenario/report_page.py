"""A scenario as one HTML page to hand on: words, maps, tables, and what it rests on.

The page is a single file with inline SVG, styles and a little JavaScript; it loads nothing, and its
content security policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from stgraph._optional import require
from stgraph.errors import InputError, OutputError
from stgraph.scenario._numbers import Estimate, decade, number, plain, signed
from stgraph.scenario._report_maps import Drawn, edit_map, is_major, maps_of, prepare
from stgraph.scenario._report_tables import (
    access_tables,
    area_table,
    od_pairs,
    od_zones,
    operations_of,
    profile_of,
    street_tables,
    summary_rows,
)
from stgraph.scenario._report_words import headline as headline
from stgraph.scenario._report_words import method_words, per_time, span_words
from stgraph.scenario._side_by_side import side_by_side
from stgraph.scenario._svg_map import FLOW, SPEED, draw_legend, draw_network, edit_legend
from stgraph.scenario.compare import compare
from stgraph.scenario.result import ScenarioResult

# metrics of the summary that planners ask for first, with their unit in words
TILES = {"VHT": "vehicle hours", "delay": "vehicle hours lost", "unserved trips": "trips not made"}
_NETWORK = "net"
_COVERED = 95.0  # per cent of the streets; less is worth a warning
_LOUD = ("warnings", "extrapolation")  # of a card: at the top of the page


def write_report(results: ScenarioResult | Sequence[ScenarioResult], path: str | Path) -> Path:
    """Write a page about one scenario, or about several on one baseline side by side.

    Parameters
    ----------
    results
        Scenarios that were run.
    path
        A file that ends in ``.html``; its folder must exist. An older file is replaced.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    InputError
        There is no result, or the path has another ending.
    DataError
        Several scenarios have different baselines, horizons or networks, or segments no lines.
    OutputError
        The file cannot be written; nothing is left behind.
    """
    found = [results] if isinstance(results, ScenarioResult) else list(results)
    if not found:
        raise InputError("`results` is empty; give at least one scenario that was run")
    final = Path(path)
    if final.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{str(path)!r} does not end in .html; name a page")
    text = render_report(found)
    aside = final.with_name(f".{secrets.token_hex(6)}{final.suffix}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(final)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r}: {error}; check folder, free space and permissions, "
            "nothing was left behind"
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return final


def render_report(results: Sequence[ScenarioResult]) -> str:
    """Return the page as text; the same results give the same text."""
    jinja2 = require("jinja2", extra="scenario")
    tables = compare(results) if len(results) > 1 else None
    drawn = _draw(results)
    network = next((part for part in drawn if part.sheet is not None), None)
    files = resources.files("stgraph.scenario") / "page"
    texts = {name: (files / f"report.{name}").read_text("utf-8") for name in ("css", "js")}
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"number": number, "signed": signed, "plain": plain}
    scenarios = [_scenario(part, f"s{i}") for i, part in enumerate(drawn, start=1)]
    comparison = None if tables is None else side_by_side(tables, drawn, network=_NETWORK)
    template = environment.from_string((files / "report.html.j2").read_text("utf-8"))
    text: str = template.render(
        title=results[0].name if len(results) == 1 else f"{len(results)} scenarios compared",
        csp=_policy(texts["css"], texts["js"]),
        css=texts["css"],
        js=texts["js"],
        network=_network(network),
        legends={
            "speed": draw_legend(SPEED),
            "flow": draw_legend(FLOW),
            "edits": edit_legend(),
        },
        scenarios=scenarios,
        comparison=comparison,
    )
    return text


def _policy(css: str, js: str) -> str:
    """Return a content security policy that allows this style and this script, nothing else."""
    marks = [base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in (css, js)]
    return (
        f"default-src 'none'; style-src 'sha256-{marks[0]}'; script-src 'sha256-{marks[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _draw(results: Sequence[ScenarioResult]) -> list[Drawn]:
    """Return what is to be drawn, all scenarios on maps of the same extent."""
    drawn = [prepare(result) for result in results]
    boxes = [part.sheet.box for part in drawn if part.sheet is not None]
    if len(boxes) < 2:
        return drawn
    left, bottom = (min(box[i] for box in boxes) for i in (0, 1))
    right, top = (max(box[i] + box[i + 2] for box in boxes) for i in (0, 1))
    box = (left, bottom, right - left, top - bottom)
    return [part.on(box) for part in drawn]


def _network(drawn: Drawn | None) -> str:
    """Return the network that lies under all maps: the segments that are there today."""
    if drawn is None or drawn.sheet is None:
        return f'<g id="{_NETWORK}"></g>'
    new = np.array([drawn.touched.get(str(i)) == "new" for i in drawn.peaks["day"]["segment_id"]])
    return draw_network(drawn.sheet, is_major(drawn.result), ~new, name=_NETWORK)


def _scenario(drawn: Drawn, key: str) -> dict[str, Any]:
    """Return all that the template says about one scenario."""
    result = drawn.result
    maps = maps_of(drawn, key=key, network=_NETWORK)
    profile = profile_of(result, key=key)
    if profile:
        tops = [abs(row["base"]) for row in profile["rows"] if row["base"] == row["base"]]
        profile |= {"step": decade(max(tops, default=1.0) / 100)}
    return {
        "key": key,
        "name": result.name,
        "run_id": result.run_id,
        "baseline": result.baseline,
        "span": span_words(result),
        "per": per_time(result),
        "method": method_words(result),
        "warnings": _warnings(result),
        "headline": headline(result),
        "sublines": _sublines(result),
        "tiles": _tiles(result),
        "operations": operations_of(result),
        "edit_map": edit_map(drawn, key=key, network=_NETWORK),
        "maps": maps,
        "first_period": max(maps, key=lambda m: float(m["weight"]))["period"],
        "no_effect": not any(bool(links["significant"].any()) for links in drawn.peaks.values()),
        **street_tables(drawn),
        "summary": summary_rows(result),
        "profile": profile,
        "pairs": od_pairs(result),
        "zones": od_zones(result),
        "access": access_tables(result),
        "areas": area_table(result),
        "card": {name: part for name, part in result.card.items() if name not in _LOUD},
        "findings": [f for f in result.report if f.level != "error"] + result.report.errors,
        "script": result.script,
    }


def _warnings(result: ScenarioResult) -> list[str]:
    """Return what has to be read before anything else."""
    found = []
    for name in _LOUD:
        part = result.card.get(name)
        if isinstance(part, Mapping):
            found += [f"{key}: {plain(value)}" for key, value in part.items()]
        elif isinstance(part, (list, tuple)):
            found += [plain(line) for line in part]
        elif part:
            found.append(plain(part))
    if result.method == "diversion":
        found.append("without demand this shows where traffic moves, but not how much")
    covered = result.summary.loc[result.summary["metric"] == "covered network", "base"]
    if len(covered) and covered.iloc[0] < _COVERED:
        share = number(float(covered.iloc[0]))
        found.append(
            f"speed and flow are known for {share} % of the streets; sums leave out others"
        )
    return list(dict.fromkeys([*found, *(str(finding) for finding in result.report.warnings)]))


def _sublines(result: ScenarioResult) -> list[str]:
    """Return sentences for below the headline."""
    lines = []
    for row in summary_rows(result):
        if row["metric"] == "unserved trips" and row["estimate"].change > 0:
            count = number(row["estimate"].change, row["estimate"].step)
            lines.append(f"{count} {row['estimate'].unit} cannot be made any more.")
    return lines


def _tiles(result: ScenarioResult) -> list[dict[str, Any]]:
    """Return the numbers at the top of the page, in the order of `TILES`."""
    rows = {row["metric"]: row["estimate"] for row in summary_rows(result)}
    return [
        {"label": f"{words} {per_time(result)}", "estimate": rows[metric]}
        for metric, words in TILES.items()
        if metric in rows and _is_known(rows[metric])
    ]


def _is_known(estimate: Estimate) -> bool:
    """Tell whether there is a number to show."""
    return bool(np.isfinite(estimate.change))
