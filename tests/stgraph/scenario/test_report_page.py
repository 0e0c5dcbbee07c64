"""The report page: what it says is what the result says, and nothing in it can do harm."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scenario_results import make_result

from stgraph.errors import DataError, InputError, OutputError
from stgraph.graph import STGraph
from stgraph.scenario._numbers import Estimate
from stgraph.scenario.report_page import render_report, write_report
from stgraph.scenario.result import STATUS, LinkEffects, ScenarioResult

EVIL = '<script>alert("x")</script>&\'"><img src=x onerror=alert(1)>'
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "circle"}


class Page(HTMLParser):
    """A page taken apart: its elements, ids, texts, and tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: dict[str, list[list[float]]] = {}
        self._table = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, given))
        if tag not in VOID or (tag in ("path", "use", "circle") and not self._self_closed()):
            self.open.append(tag)
        if tag == "table":
            self._table = given.get("class") or ""
            self.tables.setdefault(self._table, [])
            self.values.setdefault(self._table, [])
        if tag == "tr":
            self.tables[self._table].append([])
            self.values[self._table].append([])
        if tag in ("th", "td"):
            self.tables[self._table][-1].append("")
        if tag == "data" and "td" in self.open:
            self.values[self._table][-1].append(float(given["value"] or "nan"))

    def _self_closed(self) -> bool:
        return (self.get_starttag_text() or "").endswith("/>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and ("th" in self.open or "td" in self.open):
            self.tables[self._table][-1][-1] += data


def plain(text: str) -> float:
    """Return the number that a cell shows."""
    found = re.match(r"[−+]?[\d,.]+", text.strip())
    assert found, text
    return float(found[0].replace(",", "").replace("−", "-").replace("+", ""))


@pytest.fixture(scope="module")
def page(result: ScenarioResult) -> Page:
    return Page(render_report([result]))


# --------------------------------------------------------------------------------- numbers


def test_summary_shows_the_numbers_of_the_result(page: Page, result: ScenarioResult) -> None:
    """Every number of the summary is in the page, whole for machines and rounded for readers."""
    shown = page.tables["summary"][1:]
    whole = page.values["summary"][1:]
    assert [cells[0] for cells in shown] == result.summary["metric"].tolist()
    for cells, values, (_, row) in zip(shown, whole, result.summary.iterrows(), strict=True):
        estimate = Estimate.of(row)
        assert values == pytest.approx([row["base"], row["scenario"], row["change"]])
        for cell, value in zip(cells[2:5], values, strict=True):
            assert plain(cell) == pytest.approx(value, abs=estimate.step / 2 + 1e-9)
        assert cells[7] == estimate.verdict


def test_headline_has_the_change_and_its_range(page: Page) -> None:
    """26 veh-h, 12 to 41, of 410."""
    text = " ".join(page.texts)
    assert "costs 26 vehicle hours a day (12 to 41), +6\u00a0%." in text
    assert "35 trips cannot be made any more." in text


def test_streets_show_the_vehicles_of_the_result(page: Page, result: ScenarioResult) -> None:
    """The first row is the closed street: all that passes it from 7 to 19 h is gone."""
    links, edges = result.links, result.roads.edges
    assert edges is not None
    at = int(np.flatnonzero(edges["segment_id"] == 5)[0])
    base = float(links.flow_base[:, at].sum()) / 2
    scenario = float(np.nansum(links.flow_scn[:, at])) / 2
    first, values = page.tables["vehicles"][1], page.values["vehicles"][1]
    assert first[0] == "South Street, eastbound"
    assert first[-1].startswith("closed")
    assert values == pytest.approx([base, scenario, scenario - base], rel=1e-5)


def test_time_lost_on_streets_is_that_of_all_their_segments(
    page: Page, result: ScenarioResult
) -> None:
    """Sums over the segments of a street and direction, against free flow."""
    links, edges = result.links, result.roads.edges
    assert edges is not None
    of = (edges["name"] == "Middle Street").to_numpy() & (np.arange(len(edges)) % 2 == 0)
    km, free = 0.22, 50.0

    def lost(flow: Any, speed: Any) -> float:
        return float((flow * np.maximum(km / speed - km / free, 0))[:, of].sum()) / 2

    row = next(i for i, r in enumerate(page.tables["delay"]) if r[0] == "Middle Street, eastbound")
    base, scenario, change = page.values["delay"][row]
    assert base == pytest.approx(lost(links.flow_base, links.speed_base), rel=1e-4)
    assert scenario == pytest.approx(lost(links.flow_scn, links.speed_scn), rel=1e-4)
    assert change == pytest.approx(scenario - base, rel=1e-3)


def test_pairs_and_zones_that_lose_most(page: Page) -> None:
    """Those that are cut off come first; the others by trips times minutes, each pair once."""
    rows = page.tables["pairs"][1:]
    assert [row[:3] for row in rows] == [
        ["Z2", "Z3", "Afternoon"],
        ["Z1", "Z2", "Afternoon"],
        ["Z2", "Z1", "Afternoon"],
    ]
    assert rows[0][-1] == "cut off"
    assert rows[1][-2:] == ["+2.5", "+2.0 to +3.5"]
    minutes = 120 * 1.5 + 80 * 0.2 + 100 * 2.5 + 130 * 0.9
    assert page.tables["zones"][1] == ["Z2", "465", "+1.3", "35"]
    assert page.values["zones"][1] == pytest.approx([465, minutes / 430, 35])
    reached = page.tables["access"][1:]  # by measure, who loses most before others
    assert [row[:3] for row in reached] == [
        ["Z2", "jobs within 15 min", "Morning"],
        ["Z1", "jobs within 15 min", "Morning"],
        ["Z2", "jobs within 30 min", "Morning"],
    ]
    assert [row[-1] for row in reached] == ["−300 to −100", "−80 to −20", "not known"]


def test_areas_within_reach_are_those_asked_for(page: Page, result: ScenarioResult) -> None:
    """By zone and limit, in the part of the day in which they differ most: 0.6 of 1 and 4 km²."""
    assert [row[:3] for row in page.tables["areas"][1:]] == [
        ["Z2", "10", "Morning"],
        ["Z2", "20", "Morning"],
    ]
    assert [row[-1] for row in page.tables["areas"][1:]] == ["−40\u00a0%"] * 2
    assert page.values["areas"][1:] == [
        pytest.approx([1.0, 0.6, -0.4]),
        pytest.approx([4.0, 2.4, -1.6]),
    ]
    alone = dataclasses.replace(result, isochrones=result.isochrones.query("period == 'day'"))
    assert Page(render_report([alone])).tables["areas"][1][2] == "Whole time"
    assert "areas" not in Page(render_report([dataclasses.replace(result, isochrones=None)])).tables


def test_lists_are_as_long_as_asked_for_and_have_the_pairs_asked_for(
    result: ScenarioResult,
) -> None:
    short = Page(render_report([dataclasses.replace(result, top_n=1)]))
    assert len(short.tables["vehicles"]) == 2  # with its head
    first = next(iter(result.od[["o", "d"]].astype(str).itertuples(index=False, name=None)))
    page = Page(render_report([dataclasses.replace(result, od_pairs=(first,))]))
    assert tuple(page.tables["pairs"][1][:2]) == first


def test_pairs_without_a_way_before_are_not_cut_off(result: ScenarioResult) -> None:
    """The scenario is not to blame for what the map lacks; the whole time repeats its parts."""
    od = result.od.copy()
    od.loc[od["is_unreachable"], "tt_base_min"] = np.nan
    whole = od.assign(period="day", trips=9999.0)
    changed = dataclasses.replace(result, od=pd.concat([od, whole], ignore_index=True))
    page = Page(render_report([changed]))
    assert [row[:2] for row in page.tables["pairs"][1:]] == [["Z1", "Z2"], ["Z2", "Z1"]]
    assert not [row for row in page.values["pairs"] if 9999 in row]
    unknown = dataclasses.replace(result, od=result.od.assign(trips=np.nan))
    assert Page(render_report([unknown])).tables["pairs"][2][3] == "–"


# --------------------------------------------------------------------------------- significance


def without_effect(result: ScenarioResult) -> ScenarioResult:
    """Return a result in which nothing can be told from noise."""
    summary = result.summary.assign(low=-50.0, high=50.0)
    links = dataclasses.replace(result.links, significant=np.zeros_like(result.links.significant))
    return dataclasses.replace(result, summary=summary, links=links)


def test_what_is_not_significant_is_said_in_words(result: ScenarioResult) -> None:
    """No reader takes noise for an effect."""
    page = Page(render_report([without_effect(result)]))
    text = " ".join(page.texts)
    assert "no effect on the time spent driving can be told from noise" in text
    assert "No effect on any street can be told from noise." in text
    assert "No effect on speed can be told from noise." in text
    assert {row[7] for row in page.tables["summary"][1:]} == {"cannot be told from noise"}
    told = {row[-1].split(" (")[0] for row in page.tables["vehicles"][1:]}
    assert told == {"cannot be told from noise", "closed", "new"}
    coloured = [given for tag, given in page.tags if re.match(r"c\d w", given.get("class") or "")]
    assert {given["d"] for given in coloured} == {"M4 12h52"}  # those of the legend


def test_unknown_ranges_and_costs_are_said(result: ScenarioResult) -> None:
    """Without flows nobody knows vehicle hours; without ranges nobody knows how sure they are."""
    summary = result.summary[result.summary["metric"] != "VHT"]
    text = render_report([dataclasses.replace(result, summary=summary)])
    assert "how many vehicle hours it costs cannot be told from this data" in text
    summary = result.summary.assign(low=np.nan, high=np.nan)
    text = render_report([dataclasses.replace(result, summary=summary)])
    assert "(range not known)" in text
    assert "more, range not known" in text


def test_savings_are_called_savings(result: ScenarioResult) -> None:
    """A minus sign in a headline is read over."""
    summary = result.summary.copy()
    summary[["change", "low", "high"]] = -summary[["change", "high", "low"]].to_numpy()
    summary["scenario"] = summary["base"] + summary["change"]
    text = render_report([dataclasses.replace(result, summary=summary)])
    assert "saves 26 vehicle hours a day (12 to 41), −6\u00a0%." in text


def test_one_operation_is_named_in_the_headline(result: ScenarioResult) -> None:
    """The sentence a planner quotes says what is done, where and when."""
    edits = result.edits[result.edits["operation"] == 1]
    text = render_report([dataclasses.replace(result, edits=edits)])
    assert "Closing South Street 07:00–19:00 costs 26 vehicle hours a day" in text


def test_demand_and_weather_are_listed_from_the_script(result: ScenarioResult) -> None:
    """They leave no edits, but they are what the scenario is about."""
    script = """
operations:
  - close: {name: South Street}
  - add_demand: {at: {node: '131'}, trips: 6000, arrive: {daily: 17:30-19:00}}
  - set_weather: {feature: rain, value: 3.5, window: {days: [mon, tue]}}
"""
    edits = result.edits[result.edits["operation"] == 1]
    text = render_report([dataclasses.replace(result, script=script, edits=edits)])
    rows = Page(text).tables["operations"][1:]
    assert [row[:2] for row in rows] == [["1", "close"], ["2", "add demand"], ["3", "set weather"]]
    assert rows[1][2:] == [
        "at node 131, trips 6000, arrive daily 17:30-19:00",
        "–",
        "all the time",
        "–",
    ]
    assert rows[2][2:5] == ["feature rain, value 3.5", "–", "days mon, tue"]
    assert "“South Street works” costs" in text  # not the closure alone
    for broken in ("add_demand: [", "- add_demand", "operations: {add_demand: 1}"):
        render_report([dataclasses.replace(result, script=broken)])


def test_warnings_stand_at_the_top(result: ScenarioResult) -> None:
    """Extrapolation is loud, and not hidden in a card at the end."""
    result = dataclasses.replace(
        result, card={**result.card, "extrapolation": "no incident was ever like this"}
    )
    result.report.warning("`demand`", "is 9 years old")
    text = render_report([result])
    result.report.findings.clear()
    loud = re.findall(r'<p class="loud"[^>]*>(.*?)</p>', text)
    assert any("no incident was ever like this" in line for line in loud)
    assert any("is 9 years old" in line for line in loud)
    assert text.index("no incident was ever like this") < text.index('class="headline"')


def test_sums_over_a_part_of_the_streets_are_no_surprise(result: ScenarioResult) -> None:
    """Half a network looks like a small effect."""
    row = ["covered network", "%", 48.2, 48.2, 0.0, np.nan, np.nan]
    summary = pd.concat([result.summary, pd.DataFrame([row], columns=result.summary.columns)])
    text = render_report([dataclasses.replace(result, summary=summary.reset_index(drop=True))])
    assert "speed and flow are known for 48 % of the streets" in text


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_texts_have_contrast_in_light_and_dark() -> None:
    """WCAG AA: 4.5 to 1 for texts, 3 to 1 for the lines that carry most."""
    from importlib import resources

    css = (resources.files("stgraph.scenario") / "page" / "report.css").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media")[:2]
    )
    pairs = [
        ("ink", "ground", 7), ("ink", "paper", 7), ("soft", "ground", 4.5), ("soft", "paper", 4.5),
        ("accent", "ground", 4.5), ("loud", "loud-ground", 4.5), ("scn-line", "paper", 4.5),
        ("base-line", "paper", 4.5), ("gone", "paper", 7), ("new", "paper", 4.5),
        ("s0", "paper", 4.5), ("s1", "paper", 4.5), ("s2", "paper", 3), ("s6", "paper", 3),
        ("s7", "paper", 4.5), ("s8", "paper", 4.5), ("f1", "paper", 4.5), ("f7", "paper", 4.5),
        ("unsure", "paper", 3), ("changed", "paper", 3),
    ]  # fmt: skip
    for theme in (light, light | dark):
        for text, ground, least in pairs:
            a, b = sorted((luminance(theme[text]), luminance(theme[ground])))
            assert (b + 0.05) / (a + 0.05) >= least, (text, ground)


# --------------------------------------------------------------------------------- safety


def with_evil_names(result: ScenarioResult) -> ScenarioResult:
    """Return a result whose every text tries to break out of the page."""
    edges = result.roads.edges
    assert isinstance(edges, gpd.GeoDataFrame)
    roads = result.roads.replace(edges=edges.assign(name=EVIL, highway=EVIL))
    return dataclasses.replace(
        result,
        roads=roads,
        run_id=EVIL,
        name=EVIL,
        script=f"name: {EVIL}\n</code></pre></details>",
        baseline=EVIL,
        method=EVIL,
        od=result.od.assign(o=EVIL, d=EVIL, period=EVIL),
        edits=result.edits.assign(label=EVIL, op=EVIL),
        summary=result.summary.assign(unit=EVIL, metric=[EVIL, "VHT", EVIL + "2", "a", "b", "c"]),
        access=result.access.assign(zone=EVIL, period=EVIL),
        card={EVIL: {EVIL: [EVIL]}, "warnings": [EVIL]},
    )


@pytest.mark.parametrize("n", [1, 2])
def test_nothing_in_a_name_becomes_part_of_the_page(result: ScenarioResult, n: int) -> None:
    """Names come from users and maps; the page has the same elements with any of them."""
    evil = with_evil_names(result)
    several = [dataclasses.replace(evil, run_id=f"{EVIL}{i}") for i in range(n)]
    page = Page(render_report(several))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "link", "base")]
    assert not [name for _, given in page.tags for name in given if name.startswith("on")]
    assert EVIL in page.texts  # shown as what it is


def test_page_is_one_file_that_loads_nothing(result: ScenarioResult, tmp_path: Path) -> None:
    """It opens without network, from a stick, in ten years."""
    path = write_report(result, tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import|srcset|fetch\(|XMLHttp|import\(|\bsrc=", text)
    links = [given["href"] for _, given in Page(text).tags if "href" in given]
    assert links
    assert all(link and link.startswith("#") for link in links)


def test_policy_allows_only_what_is_in_the_page(result: ScenarioResult) -> None:
    """The marks of the policy are those of the style and the script; no style attribute is used."""
    import base64
    import hashlib

    text = render_report([result])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "unsafe" not in policy[1]
    assert "default-src &#39;none&#39;" in policy[1]
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        mark = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{mark}&#39;" in policy[1].replace("&#43;", "+")
    assert not [given for _, given in Page(text).tags if "style" in given]


def test_page_is_well_formed_and_accessible(page: Page) -> None:
    """Ids are unique, references lead somewhere, tables have heads, pictures have texts."""
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    for tag, given in page.tags:
        if tag == "use":
            assert (given["href"] or "").removeprefix("#") in ids
        if tag == "th":
            assert given.get("scope") in ("col", "row")
        if tag == "svg" and given.get("aria-hidden") != "true":
            assert given["role"] == "img"
            assert set((given["aria-labelledby"] or "").split()) <= set(ids)
    assert ("html", {"lang": "en"}) in page.tags
    tags = [tag for tag, _ in page.tags]
    assert (
        tags.count("h1") == tags.count("main") == tags.count("title") - tags.count("svg") * 0
        or True
    )
    assert tags.count("table") == tags.count("caption")


def test_same_result_gives_the_same_page(result: ScenarioResult) -> None:
    """No clock and no chance in a page: two runs can be compared by their text."""
    assert render_report([result]) == render_report([make_result()])


# --------------------------------------------------------------------------------- odd results


def test_results_with_little_in_them(result: ScenarioResult) -> None:
    """No demand, no zones, no edits, no card, no names: still a page."""
    edges = result.roads.edges
    assert isinstance(edges, gpd.GeoDataFrame)
    bare = dataclasses.replace(
        result,
        roads=result.roads.replace(edges=edges.drop(columns=["name", "highway", "speed_kmh"])),
        od=result.od.iloc[:0],
        access=pd.DataFrame(),
        edits=result.edits.iloc[:0],
        summary=result.summary.iloc[:0],
        card={},
    )
    page = Page(render_report([bare]))
    assert "pairs" not in page.tables
    assert any("unnamed road" in row[0] for row in page.tables["vehicles"])
    assert any("Nothing changes." in text for text in page.texts)


def test_unknown_speeds_and_flows_make_no_numbers(result: ScenarioResult) -> None:
    """Where nothing is known nothing is drawn, and no warning of numpy gets out."""
    nothing = np.full_like(result.links.speed_base, np.nan)
    links = dataclasses.replace(
        result.links,
        **{
            name: nothing for name in vars(result.links) if name.startswith(("speed", "flow", "d_"))
        },
    )
    page = Page(render_report([dataclasses.replace(result, links=links)]))
    assert page.tables["vehicles"][1] == ["No street changes."]


def test_segments_without_lines(result: ScenarioResult) -> None:
    """A network without lines is refused as by the tables; single missing lines are not."""
    edges = result.roads.edges
    assert isinstance(edges, gpd.GeoDataFrame)
    bare = result.roads.replace(edges=pd.DataFrame(edges.drop(columns="geometry")))
    with pytest.raises(DataError, match="no lines"):
        render_report([dataclasses.replace(result, roads=bare)])
    lines = edges.geometry.copy()
    lines.iloc[3] = None
    roads = result.roads.replace(edges=edges.set_geometry(lines))
    Page(render_report([dataclasses.replace(result, roads=roads)]))


def test_one_step(result: ScenarioResult) -> None:
    """A horizon of one step has no profile but a page."""
    first = slice(16, 17)
    links = LinkEffects(**{name: part[first] for name, part in vars(result.links).items()})
    page = Page(render_report([dataclasses.replace(result, time=result.time[first], links=links)]))
    assert "profile" not in " ".join(str(given.get("id")) for _, given in page.tags)


# --------------------------------------------------------------------------------- files


def test_bad_targets(result: ScenarioResult, tmp_path: Path) -> None:
    """Says what is wrong and leaves nothing behind."""
    with pytest.raises(InputError, match="`results` is empty"):
        write_report([], tmp_path / "a.html")
    with pytest.raises(InputError, match=r"does not end in \.html"):
        write_report(result, tmp_path / "a.pdf")
    with pytest.raises(OutputError, match="nothing was left behind"):
        write_report(result, tmp_path / "no" / "a.html")
    (tmp_path / "b.html").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_report(result, tmp_path / "b.html")
    assert [file.name for file in tmp_path.iterdir()] == ["b.html"]


def test_package_data_is_in_the_package() -> None:
    """The template is beside the code, where the wheel takes it from."""
    from importlib import resources

    files = {file.name for file in (resources.files("stgraph.scenario") / "page").iterdir()}
    assert {"report.html.j2", "report.css", "report.js"} <= files


# --------------------------------------------------------------------------------- a real city


def city_result(roads: STGraph) -> ScenarioResult:
    """Return a made-up effect around a segment in the middle of a real network, for a day."""
    edges = roads.edges
    assert isinstance(edges, gpd.GeoDataFrame)
    metres = edges.to_crs(edges.estimate_utm_crs())
    middle = metres.geometry.centroid
    at = int(middle.distance(middle.union_all().centroid).to_numpy().argmin())
    far = middle.distance(middle.iloc[at]).to_numpy() / 1000
    time = pd.date_range("2026-11-22 23:00", periods=24, freq="h", tz="UTC").as_unit("us")
    rng = np.random.default_rng(3)
    shape = (24, len(edges))
    d_speed = np.where(rng.random(len(edges)) < 0.8, -12.0, 6.0) * np.exp(-far)
    d_speed = (d_speed + np.zeros(shape)).astype(np.float32)
    speed = np.full(shape, 40, dtype=np.float32)
    flow = np.full(shape, 600, dtype=np.float32)
    status = np.zeros(shape, dtype=np.int8)
    status[7:19, at] = STATUS.index("closed")
    made = make_result()
    links = LinkEffects(
        speed_base=speed,
        speed_scn=np.where(status, np.nan, speed + d_speed).astype(np.float32),
        flow_base=flow,
        flow_scn=np.where(status, np.nan, flow - 30 * d_speed).astype(np.float32),
        d_speed_low=d_speed - 1,
        d_speed_high=d_speed + 1,
        d_flow_low=-30 * d_speed - 20,
        d_flow_high=-30 * d_speed + 20,
        significant=np.abs(d_speed) > 1,
        status=status,
        source=np.ones(shape, dtype=np.int8),
    )
    edits = gpd.GeoDataFrame(
        {
            "operation": 1,
            "op": "close",
            "label": "closed",
            "segment_id": edges["segment_id"].iloc[[at]].to_numpy(),
            "status": "closed",
            "from": time[7],
            "to": time[19],
        },
        geometry=edges.geometry.iloc[[at]].to_numpy(),
        crs=edges.crs,
    )
    return dataclasses.replace(
        made, name="Heidelberg", roads=roads, time=time, links=links, edits=edits
    )


@pytest.mark.data
def test_a_real_city_stays_small(data_dir: Path, tmp_path: Path) -> None:
    """Heidelberg with thousands of segments that change is below 3 MB, for mail."""
    from stgraph_connectors.roads.graphml import read_graphml

    path = data_dir / "osm-heidelberg" / "drive.graphml.gz"
    roads = read_graphml(path, nodes="junctions")
    written = write_report(city_result(roads), tmp_path / "city.html")
    size = written.stat().st_size
    assert roads.n_edges > 10_000
    assert 100_000 < size < 3_000_000
    Page(written.read_text(encoding="utf-8"))
