"""Scenario files: the same as calls, with all errors of all scenarios in one message."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stgraph.config import reveal
from stgraph.errors import ConfigError
from stgraph.scenario.documents import dump_yaml, load_document
from stgraph.scenario.script import Scenario
from stgraph.scenario.scriptfile import pick_scenarios, read_scenarios, to_yaml
from stgraph.scenario.sources import Baseline, DemandSource, Horizon, Outputs, Source

LINE = "LINESTRING (10 50, 10.01 50.01)"

CALLS = (
    Scenario("works", timezone="Europe/Berlin", description="Spring", seed=3)
    .close(name="A Avenue", daily="07:00-19:00", days=["mon-fri"], allow=["bus"], direction="both")
    .set_speed(road_class=["residential"], kmh=30, note="on trial: quiet")
    .set_lanes(edges=[305, 342], lanes=1, from_="2026-11-23 07:00", to="2026-11-24T00:00+01:00")
    .set_capacity(near=(10.03, 50.02), factor=0.5)
    .roadworks(where="lanes >= 2", lanes_lost=1, kmh=30, override=True)
    .add_road(id="new", geometry=LINE, lanes=2, kmh=50, daily="22:00-05:00")
    .remove_road(osmid=7)
    .reverse(between=("12", "40"))
    .ban_turn(from_={"name": "A"}, to={"name": "B"}, window={"from": "2026-11-23"})
    .add_demand(at={"node": "131"}, trips=6000, arrive="17:30-19:00", leave="21:00-22:00")
    .scale_demand(factor=1.15, from_zone=["Z4"], days="sat, sun")
    .set_weather(feature="rain", value=2.5)
)

YAML = f"""
name: works
description: Spring
timezone: Europe/Berlin
seed: 3
operations:
  - close: {{name: A Avenue, daily: 7:00-19:00, days: mon-fri, allow: bus}}
  - set_speed:
      target: {{road_class: residential}}
      kmh: 30
      note: "on trial: quiet"
  - set_lanes: {{edges: [305, 342], lanes: 1, from: 2026-11-23 07:00, to: 2026-11-24T00:00+01:00}}
  - set_capacity: {{target: {{near: {{lon: 10.03, lat: 50.02}}}}, factor: 0.5}}
  - roadworks: {{where: lanes >= 2, lanes_lost: 1, kmh: 30, override: true}}
  - add_road:
      id: new
      geometry: {LINE}
      lanes: 2
      kmh: 50
      window: 22:00-05:00
  - remove_road: {{osmid: 7}}
  - reverse: {{between: [12, 40]}}
  - ban_turn: {{from: {{name: A}}, to: {{name: B}}, window: {{from: 2026-11-23}}}}
  - add_demand: {{at: {{node: 131}}, trips: 6000, arrive: 17:30-19:00, leave: 21:00-22:00}}
  - scale_demand: {{factor: 1.15, from_zone: [Z4], days: [sat, sun]}}
  - {{op: set_weather, feature: rain, value: 2.5}}
"""

TOML = f"""
name = "works"
description = "Spring"
timezone = "Europe/Berlin"
seed = 3
operations = [
  {{close = {{name = "A Avenue", daily = "07:00-19:00", days = ["mon-fri"], allow = ["bus"]}}}},
  {{set_speed = {{road_class = ["residential"], kmh = 30, note = "on trial: quiet"}}}},
  {{set_lanes = {{edges = [305, 342], lanes = 1, from = 2026-11-23T07:00:00, to = 2026-11-24T00:00:00+01:00}}}},
  {{set_capacity = {{near = [10.03, 50.02], factor = 0.5}}}},
  {{roadworks = {{where = "lanes >= 2", lanes_lost = 1, kmh = 30.0, override = true}}}},
  {{add_road = {{id = "new", geometry = "{LINE}", lanes = 2, kmh = 50, daily = "22:00-05:00"}}}},
  {{remove_road = {{osmid = [7]}}}},
  {{reverse = {{between = ["12", "40"]}}}},
  {{ban_turn = {{from = {{name = "A"}}, to = {{name = "B"}}, window = {{from = 2026-11-23}}}}}},
  {{add_demand = {{at = {{node = "131"}}, trips = 6000, arrive = "17:30-19:00", leave = "21:00-22:00"}}}},
  {{scale_demand = {{factor = 1.15, from_zone = ["Z4"], days = "sat, sun"}}}},
  {{op = "set_weather", feature = "rain", value = 2.5}},
]
"""  # noqa: E501


def read(text: str, folder: Path, name: str = "file.yaml") -> tuple[Scenario, ...]:
    """Return the scenarios of a text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_scenarios(path, environment={})


def refused(text: str, folder: Path, name: str = "file.yaml") -> list[str]:
    """Return the lines of the error that a text gives, without the first."""
    with pytest.raises(ConfigError) as caught:
        read(text, folder, name)
    return str(caught.value).splitlines()[1:]


@pytest.mark.parametrize(("text", "name"), [(YAML, "a.yaml"), (YAML, "a.yml"), (TOML, "a.toml")])
def test_files_equal_calls(text: str, name: str, tmp_path: Path) -> None:
    """All twelve operations, in short and in long forms."""
    (scenario,) = read(text, tmp_path, name)
    assert scenario.operations == CALLS.operations
    assert scenario == CALLS


def test_back_to_yaml(tmp_path: Path) -> None:
    """What was run can be written down and run again."""
    assert read(to_yaml(CALLS), tmp_path) == (CALLS,)


def test_settings(tmp_path: Path) -> None:
    """Paths are those of the file's folder, sources have their usual connectors."""
    for name in ("job.toml", "zones.gpkg"):
        (tmp_path / name).touch()
    text = """
    timezone: Europe/Berlin
    baseline: {roads: city.osm.pbf, job: job.toml, history: {connector: stations, stations: s.csv}}
    demand: {gravity: {weights: [home, jobs], n_zones: 20}, zones: zones.gpkg}
    horizon: {from: 2026-11-23 06:00, to: 2026-11-23 21:00}
    outputs: {geopackage: "${OUT:-out}/a.gpkg", report: a.html, top_n: 5, od_pairs: [[Z1, 7]]}
    """
    (scenario,) = read(text, tmp_path, "north.yaml")
    assert scenario.name == "north"
    assert scenario.baseline == Baseline(
        roads=Source(
            connector="roads",
            options={"source": str(tmp_path / "city.osm.pbf"), "nodes": "junctions"},
        ),
        history=Source(connector="stations", options={"stations": str(tmp_path / "s.csv")}),
        job=tmp_path / "job.toml",
    )
    assert scenario.demand == DemandSource(
        gravity={"weights": ("home", "jobs"), "n_zones": 20}, zones=tmp_path / "zones.gpkg"
    )
    start = dt.datetime(2026, 11, 23, 6)  # noqa: DTZ001
    assert scenario.horizon == Horizon.model_validate(
        {"from": start, "to": start + dt.timedelta(hours=15)}
    )
    assert scenario.outputs == Outputs(
        geopackage=tmp_path / "out/a.gpkg",
        report=tmp_path / "a.html",
        top_n=5,
        od_pairs=(("Z1", "7"),),
    )
    assert read(to_yaml(scenario), tmp_path) == (scenario,)


def test_a_matrix_and_what_it_is_of(tmp_path: Path) -> None:
    """What is not the connector's stands beside it."""
    text = "demand: {od: {matrix: a.omx, matrix_name: car}, per: period, hours: [7, 9]}"
    (scenario,) = read(text, tmp_path)
    assert scenario.demand == DemandSource(
        od=Source(
            connector="od", options={"matrix": str(tmp_path / "a.omx"), "matrix_name": "car"}
        ),
        options={"per": "period", "hours": (7.0, 9.0)},
    )
    assert read(to_yaml(scenario), tmp_path, "file.yaml") == (scenario,)


def test_targets_from_files(tmp_path: Path) -> None:
    """A polygon's file is found from the folder of the scenario, wherever the target stands."""
    (tmp_path / "river.geojson").touch()
    text = """
    operations:
      - close: {name: A, within: river.geojson}
      - ban_turn: {from: {polygon: river.geojson}, to: {name: B}}
      - set_speed: {polygon: "POLYGON ((0 0, 1 0, 1 1, 0 0))", kmh: 30}
    """
    (scenario,) = read(text, tmp_path)
    river = tmp_path / "river.geojson"
    expected = (
        Scenario("file")
        .close(name="A", within=river)
        .ban_turn(from_={"polygon": river}, to={"name": "B"})
        .set_speed(polygon="POLYGON ((0 0, 1 0, 1 1, 0 0))", kmh=30)
    )
    assert scenario == expected
    assert read(to_yaml(scenario), tmp_path) == (scenario,)


def test_several_that_extend_each_other(tmp_path: Path) -> None:
    """Shared fields, then those of what is extended, then a scenario's own."""
    text = """
    timezone: Europe/Berlin
    seed: 5
    method: diversion
    outputs: {top_n: 3, report: all.html}
    scenario:
      - {name: c, extends: b, operations: [{close: {edges: 3}}]}
      - {name: a, seed: 6, description: first, operations: [{close: {edges: 1}}]}
      - {name: b, extends: a, outputs: {top_n: 4}, operations: [{close: {edges: 2}}]}
    """
    c, a, b = read(text, tmp_path)
    assert [getattr(one, "target").edges for one in c.operations] == [(1,), (2,), (3,)]  # noqa: B009
    assert (a.seed, b.seed, c.seed) == (6, 6, 6)
    assert (a.outputs.top_n, b.outputs.top_n) == (3, 4)
    assert b.outputs.report == tmp_path / "all.html"
    assert (a.based_on, b.based_on, c.based_on) == (None, "a", "b")
    assert (a.description, b.description) == ("first", "")


def test_extending_another_file(tmp_path: Path) -> None:
    """Paths of the other file stay those of its folder."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/area.geojson").touch()
    read("operations: [{close: {polygon: area.geojson}}]", tmp_path / "sub", "base.yaml")
    (tmp_path / "two.toml").write_text('[[scenario]]\nname = "x"\nseed = 4\n[[scenario]]\nname="y"')
    text = """
    scenario:
      - {name: a, extends: sub/base.yaml}
      - {name: b, extends: two.toml#x, method: diversion}
    """
    a, b = read(text, tmp_path)
    assert a.operations == Scenario("a").close(polygon=tmp_path / "sub/area.geojson").operations
    assert (a.based_on, b.based_on, b.seed, b.method) == ("base", "x", 4, "diversion")


def test_sweep(tmp_path: Path) -> None:
    """One scenario per combination, numbers as numbers, each with its values."""
    text = """
    name: zone
    sweep: {kmh: [30, 40.5], street: [A, B]}
    operations:
      - set_speed: {name: "${street} Avenue", kmh: "${kmh}"}
    """
    found = read(text, tmp_path)
    assert [one.name for one in found] == [
        "zone kmh=30, street=A",
        "zone kmh=30, street=B",
        "zone kmh=40.5, street=A",
        "zone kmh=40.5, street=B",
    ]
    assert found[1].operations == Scenario("x").set_speed(name="B Avenue", kmh=30).operations
    assert found[3].swept == {"kmh": 40.5, "street": "B"}
    assert read(to_yaml(found[3]), tmp_path) == (found[3],)


def test_sweep_of_seeds_and_names(tmp_path: Path) -> None:
    """Seed and method need no placeholder; the name may have some."""
    text = 'name: "try ${seed}"\nsweep: {seed: [1, 2], method: [auto, diversion]}'
    found = read(text, tmp_path)
    assert [(one.name, one.seed, one.method) for one in found] == [
        ("try 1 method=auto", 1, "auto"),
        ("try 1 method=diversion", 1, "diversion"),
        ("try 2 method=auto", 2, "auto"),
        ("try 2 method=diversion", 2, "diversion"),
    ]


def test_a_sweep_is_extended(tmp_path: Path) -> None:
    """What extends a sweep is swept, too, by its own values if it has some."""
    text = """
    scenario:
      - {name: a, sweep: {kmh: [30, 40]}, operations: [{set_speed: {edges: 1, kmh: "${kmh}"}}]}
      - {name: b, extends: a, sweep: {kmh: [20]}}
    """
    assert [one.name for one in read(text, tmp_path)] == ["a kmh=30", "a kmh=40", "b kmh=20"]


def test_picking() -> None:
    """By name, and all of a sweep by the name before its values."""
    plain = Scenario("zone")
    swept = [Scenario(f"slow kmh={kmh}", swept={"kmh": kmh}) for kmh in (20, 30)]
    every = (plain, *swept)
    assert pick_scenarios(every, None) == every
    assert pick_scenarios(every, ["slow"]) == tuple(swept)
    assert pick_scenarios(every, ["slow kmh=30", "zone"]) == (plain, swept[1])
    with pytest.raises(ConfigError, match=r"'zoen': there is no such .* 'zone'"):
        pick_scenarios(every, ["zoen"])


def test_yaml_says_what_it_looks_like(tmp_path: Path) -> None:
    """`on`, `no`, 010 and 17:30 are what people mean by them, not what YAML 1.1 makes of them."""
    text = """
    name: no
    description: on
    operations: [{close: {edges: 010, note: 17:30}}, {close: {name: 1_000, note: 2026-11-23}}]
    """
    (scenario,) = read(text, tmp_path)
    assert (scenario.name, scenario.description) == ("no", "on")
    expected = Scenario("x").close(edges=10, note="17:30").close(name="1_000", note="2026-11-23")
    assert scenario.operations == expected.operations


@pytest.mark.parametrize("name", ["on", "1e5", "0o17", "~", "12", "17:30", "a: b", "#x", "ü", "''"])
def test_odd_names_survive(name: str, tmp_path: Path) -> None:
    """Text stays text on the way to YAML and back."""
    scenario = Scenario("x").close(name=name, note=name)
    assert read(to_yaml(scenario), tmp_path, "x.yaml")[0].operations == scenario.operations


def test_secrets_of_sources_are_not_written() -> None:
    """Protects connection strings that are plain text in a call."""
    roads = {"connector": "osm_postgis", "options": {"dsn": "host=h password=hush", "layer": "a"}}
    scenario = Scenario("x", baseline={"roads": roads, "history": {"connector": "y", "options": {
        "database_url": "postgresql://me:hush@host/db"}}})  # fmt: skip
    assert "hush" not in to_yaml(scenario) + repr(scenario) + str(scenario.model_dump())
    assert "layer: a" in to_yaml(scenario)
    assert scenario.baseline.roads is not None
    assert reveal(scenario.baseline.roads.options)["dsn"] == "host=h password=hush"


def test_secrets_are_not_written() -> None:
    scenario = Scenario("x", outputs={"dsn": "postgresql://me:secret@host/db", "top_n": 3})
    assert "secret" not in to_yaml(scenario)
    assert "secret" not in repr(scenario)


OP = "operations: [{close: {edges: 1}}]\n"
BAD = [
    ("name: [", "a.yaml, line 1, column 8: is not valid here: "),
    ("name: a\nname: b", "line 2, column 1: is not valid here: the key 'name' is given twice"),
    ("operations:\n- close: {edges: 1, edges: 2}", "the key 'edges' is given twice"),
    ("a: &x 1\nb: *x", "the alias \\*x is not read; repeat its value, or use `extends`"),
    ("name: !!python/object:os.system x", "could not determine a constructor for the tag"),
    ("name: a\n---\nname: b", "expected a single document"),
    ("? [a]\n: b", "a key must be a word"),
    ("", "has nothing where keys should be; begin with `name: ...`"),
    ("- close: {edges: 1}", "has a list where keys should be"),
    ("[" * 3000, "is nested too deeply"),
    ("seed: " + "9" * 5000, "is not valid YAML"),
    ("name: a\x07", "is not valid YAML: unacceptable character"),
    ("nam: x", "`nam`: is an unknown key .did you mean 'name'"),
    ("name: 3", "`name`: cannot be 3; give a text"),
    ("version: 2", "`version`: cannot be 2; give 1"),
    ("seed: '3'", "`seed`: cannot be '3'; give a valid integer"),
    ("timezone: Europe/Berln", "`timezone`: cannot be 'Europe/Berln'; give the IANA name"),
    ("method: magic", "`method`: cannot be 'magic'; give 'auto'"),
    ("operations: {close: {edges: 1}}", "`operations`: is a table; write a list"),
    (
        "operations: [close]",
        "operation 1: cannot be 'close'; write it as in close: {name",
    ),
    ("operations: [3]", "operation 1: cannot be 3; write an operation and its fields"),
    ("operations: [{closed: {edges: 1}}]", "there is no operation 'closed' .did you mean 'close'"),
    ("operations: [{set: {edges: 1}}]", "there are close, set_speed, set_lanes, set_capacity"),
    (
        "operations: [{close: , edges: 1}]",
        "has the 2 keys close, edges; indent what belongs to",
    ),
    ("operations: [{close: }]", r"operation 1 \(close\): has no fields; write it as in close: {na"),
    ("operations: [{close: [1]}]", r"operation 1 \(close\): cannot be \[1\]"),
    (
        "operations: [{close: {nam: x}}]",
        r"\(close\) `nam`: is an unknown key .*'name'",
    ),
    ("operations: [{close: {edges: 1, override: yes}}]", "'yes'; give true or false"),
    ("operations: [{close: {target: A Avenue}}]", "`target`: cannot be 'A Avenue'"),
    ("operations: [{close: {polygon: no.geojson}}]", "`polygon`: there is no file '.*/no.geojson'"),
    (
        "operations: [{close: {polygon: '${NO}/a.gpkg'}}]",
        r"`polygon`: names \${NO}, which is not",
    ),
    ("operations: [{close: {name: '${x}'}}]", r"names \${x}, which `sweep` does not have; add it"),
    (
        "operations: [{close: {edges: 1, daily: 7:00-8:00}}]",
        "`timezone`: is missing, and there",
    ),
    ("horizon: {from: 2026-11-23, to: 2026-11-24}", "there are local times in `horizon`"),
    (
        "operations: [{add_road: {id: a, geometry: 'LINESTRING (1 2, 2 2)', kmh: 9}},"
        " {add_road: {id: A, geometry: 'LINESTRING (1 2, 2 2)', kmh: 9}}]",
        r"operation 2 \(add_road\) `id`: 'A' is the id of operation 1 \(add_road\), too",
    ),
    (
        "method: diversion\noperations: [{scale_demand: {factor: 2}}]",
        "needs a demand, and `method` is 'diversion'",
    ),
    ("horizon: tomorrow", "`horizon`: cannot be 'tomorrow'; give a table"),
    ("horizon: {from: 2026-11-23, step: 5min}", "`horizon.step`: .* it is the forecast's"),
    ("horizon: {from: 2026-11-23T00:00Z}", "`horizon.to`: is missing"),
    ("baseline: {road: x}", "`baseline.road`: is an unknown key .did you mean 'roads'"),
    ("baseline: {roads: 3}", "`baseline.roads`: cannot be 3; give a file, or a table as in"),
    ("baseline: {roads: {connector: osmm}}", "`connector`: cannot be 'osmm' .did you mean 'osm'"),
    ("baseline: {roads: {pth: x}}", "`baseline.roads` `pth`: is an unknown key"),
    ("baseline: {roads: {source: x, nodes: segments}}", "`nodes`: cannot be 'segments'; leave it"),
    ("baseline: {forecast: x.gpkg}", "`baseline.forecast`: cannot be 'x.gpkg'; give a table as in"),
    ("baseline: {job: no.toml}", "`baseline.job`: there is no file"),
    ("demand: 3", "`demand`: cannot be 3; give a table"),
    ("demand: {}", "`demand`: has no demand; give `od` or `gravity`"),
    ("demand: {od: a.omx, gravity: {}}", "`demand`: has `od` and `gravity`; give `od` or"),
    ("demand: {gravity: {weight: x}}", "`weight`: is an unknown key .did you mean 'weights'"),
    ("demand: {gravity: {n_zones: x}}", "`n_zones`: cannot be 'x'; give a valid integer"),
    ("demand: {gravity: {}, per: day}", "`demand`: has `per` beside `gravity`; put them into it"),
    ("demand: {od: a.omx, per: year}", "`demand` `per`: cannot be 'year'; give 'hour'"),
    ("demand: {od: a.omx, zones: a.yaml}", "has `zones` beside `od`; give them with the matrix"),
    ("outputs: {geopackage: a.shp}", "`outputs.geopackage`: .* a file that ends in .gpkg"),
    ("outputs: {dsn: 5}", "`outputs.dsn`: is no text; give a connection string"),
    ("sweep: 3", "`sweep`: cannot be 3; write it as in sweep = {kmh = .30, 40, 50.}"),
    ("sweep: {kmh: [30]}", r"`sweep.kmh`: is used nowhere; write \${kmh} in place of a value"),
    ("sweep: {seed: 3}", "`sweep.seed`: cannot be 3; give a list of numbers or texts"),
    ("sweep: {seed: [1, 1]}", r"`sweep.seed`: has a value twice: \[1, 1\]"),
    ("sweep: {seed: [true]}", r"`sweep.seed`: cannot be \[True\]"),
    (f"sweep: {{seed: {list(range(1001))}}}", "`sweep`: has 1001 combinations; give at most 1000"),
    ("extends: 3", '`extends`: cannot be 3; give the name of a scenario, or "file.yaml#name"'),
    ("extends: no.yaml", "`extends`: .*no.yaml: there is no such file"),
    (
        "extends: a.yaml",
        "`extends`: is a circle: 'a' extends 'a'; let one of them",
    ),
    ("extends: bse", "`extends`: there is no scenario 'bse' here"),
    ("scenario: 3", "`scenario`: is no list of tables; write a list"),
    ("scenario: []", "`scenario`: is an empty list; write one at least"),
    ("scenario: [{seed: 3}]", "a.yaml, scenario 1 `name`: is missing; give every scenario a name"),
    ("scenario: [{name: a}, {name: a}]", "scenario 'a' `name`: 'a' is given twice"),
    (f"{OP}scenario: [{{name: a}}]", "`operations`: stands beside the list `scenario`"),
    ("sed: 3\nscenario: [{name: a}]", "`sed`: is an unknown key .did you mean 'seed'"),
    (
        "scenario: [{name: a, extends: b}, {name: b, extends: c}, {name: c, extends: a}]",
        "is a circle: 'a' extends 'b' extends 'c' extends 'a'",
    ),
    (
        "scenario: [{name: x 1=2}, {name: x, sweep: {'1': [2]}}]",
        "`sweep.1`: is no name; use letters, digits and _",
    ),
    (
        "scenario: [{name: x seed=2}, {name: x, sweep: {seed: [2]}}]",
        "there are 2 scenarios called 'x seed=2'",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    """Each says where, what was given, and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        read(text, tmp_path, "a.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.yaml", "no.yaml: there is no such file; check the name"),
        ("folder.yaml", "is not a file; give a scenario file"),
        ("a.json", "ends in '.json'; give a scenario file .*toml, .yaml"),
        ("a", "ends in 'nothing'"),
        ("latin.yaml", "byte 6 is not UTF-8"),
        ("big.yaml", "has 1000001 bytes and a config at most 1000000"),
        ("bad.toml", "is not valid TOML: Invalid value"),
        ("twice.toml", "is not valid TOML: Cannot overwrite a value"),
    ],
)
def test_files_that_are_none(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "a.json").touch()
    (tmp_path / "latin.yaml").write_bytes(b"name: \xfc")
    (tmp_path / "big.yaml").write_bytes(b"#" * 1_000_001)
    (tmp_path / "bad.toml").write_text("name =")
    (tmp_path / "twice.toml").write_text('name = "a"\nname = "b"')
    with pytest.raises(ConfigError, match=message):
        read_scenarios(tmp_path / name)


def test_all_errors_of_all_scenarios_at_once(tmp_path: Path) -> None:
    """Five errors in two scenarios and four operations: five lines, each with its place."""
    text = """
    timezone: Europe/Berlin
    scenario:
      - name: a
        operations:
          - close: {edges: 1}
          - set_speed: {edges: 1, kmh: 0, daily: 7-8}
      - name: b
        extends: a
        seed: x
        operations:
          - set_lanes: {edges: 1}
          - shut: {edges: 1}
    """
    assert refused(text, tmp_path) == [
        "- file.yaml, scenario 'a', operation 2 (set_speed) `daily`: cannot be '7-8'; give hours "
        'such as "07:00-19:00"',
        "- file.yaml, scenario 'a', operation 2 (set_speed) `kmh`: cannot be 0; give a speed above "
        "0 km/h; to let nobody through, use close",
        "- file.yaml, scenario 'b', operation 1 (set_lanes) `lanes`: is missing; add `lanes`",
        "- file.yaml, scenario 'b', operation 2: there is no operation 'shut'; there are close, "
        "set_speed, set_lanes, set_capacity, roadworks, add_road, remove_road, reverse, ban_turn, "
        "add_demand, scale_demand, set_weather",
        "- file.yaml, scenario 'b' `seed`: cannot be 'x'; give a valid integer",
    ]


JUNK: list[Any] = [
    None, "", " ", "x", "${x}", "${kmh}", "../x.yaml", "a#b", 0, -1, 1.5, 10**30, float("nan"),
    float("inf"), True, [], [None], [[1, 2]], {}, {"x": 1}, {"close": {}}, {"op": ["close"]},
    {"from": 3}, "2026-11-23", "24:00-07:00", "POINT (1 2)", "\0", "close", ["mon", 3],
]  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a document with every key in it."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found: list[tuple[Any, Any]] = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], (dict, list)):
            found += _places(value[key])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_junk_is_refused_in_words(seed: int, tmp_path: Path) -> None:
    """Whatever stands anywhere in a file, it is read or refused, and never a fault of ours."""
    random = np.random.default_rng(seed)
    (tmp_path / "base.yaml").write_text(
        YAML + "sweep: {seed: [1]}\nhorizon: {from: 2026-11-23, to: 2026-11-24}\n"
    )
    for _ in range(12):
        document = load_document(tmp_path / "base.yaml")
        document |= {
            "baseline": {"roads": {"connector": "osm", "path": "x"}, "forecast": {"stations": "x"}},
            "demand": {"od": {"matrix": "x.csv"}, "per": "day"},
            "outputs": {
                "geopackage": "a.gpkg",
                "od_pairs": [["a", "b"]],
                "dsn": "service=x",
                "isochrones": {"from": ["a"], "minutes": [5, 10]},
            },
        }
        container, key = _places(document)[random.integers(len(_places(document)))]
        junk = JUNK[random.integers(len(JUNK))]
        if isinstance(container, dict) and random.random() < 0.2:
            container["junk"] = junk
        else:
            container[key] = junk
        with contextlib.suppress(ConfigError):
            read(dump_yaml(document), tmp_path, "junk.yaml")


ASKED = {
    "a.yaml": "outputs: {isochrones: {from: [Z1, 7, Z1], minutes: [30, 10]}}",
    "a.toml": '[outputs]\nisochrones = {from = ["Z1", 7, "Z1"], minutes = [30, 10]}',
}


@pytest.mark.parametrize("name", ASKED)
def test_areas_within_reach_are_asked_for(name: str, tmp_path: Path) -> None:
    """Every zone once, limits from the nearest on; and both are there when it is written again."""
    (scenario,) = read(ASKED[name], tmp_path, name)
    asked = scenario.outputs.isochrones
    assert asked is not None
    assert (asked.from_, asked.minutes) == (("Z1", "7"), (10, 30))
    assert read(to_yaml(scenario), tmp_path) == (scenario,)
    assert Outputs.model_validate({"isochrones": {"from": ["Z1"]}}).isochrones is not None


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ("{from: []}", r"`: cannot be \[\]; give 1 to 12 zones$"),
        ("{minutes: [10]}", "`outputs.isochrones.from`: is missing"),
        ("{from: [Z1], minutes: [0, 10]}", r"cannot be \[0, 10\]; give a number above 0"),
        ("{from: [Z1], minutes: [1, 2, 3, 4, 5, 6, 7]}", "give 1 to 6 limits in minutes"),
        ("{from: [Z1], minutes: [900]}", r"give a number of at most 240 \(item 0\)$"),
        ("{from: [Z1], minuets: [9]}", r"unknown key \(did you mean 'minutes'\?"),
        ("[Z1]", r"`outputs.isochrones`: cannot be \['Z1'\]"),
    ],
)
def test_areas_that_cannot_be_asked_for(asked: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=match):
        read(f"outputs: {{isochrones: {asked}}}", tmp_path)


def test_an_error_of_a_sweep_is_said_once(tmp_path: Path) -> None:
    """A shared table that cannot be used is no reason to say more of each scenario."""
    path = tmp_path / "a.yaml"
    path.write_text("baseline: {roads: 3}\nsweep: {seed: [1, 2, 3]}")
    with pytest.raises(ConfigError, match="1 problem") as caught:
        read_scenarios(path, needs=("roads", "forecast"))
    assert "`baseline.roads`: cannot be 3" in str(caught.value)


def test_what_a_run_needs(tmp_path: Path) -> None:
    """Files that are run must name what Python would be given."""
    path = tmp_path / "a.yaml"
    path.write_text("operations: [{scale_demand: {factor: 2}}]")
    assert read_scenarios(path)
    with pytest.raises(ConfigError) as caught:
        read_scenarios(path, needs=("roads", "forecast", "demand"))
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 3
    assert lines[0].startswith("- a.yaml `baseline.roads`: is missing")
    assert lines[1].startswith("- a.yaml `baseline.forecast`: is missing")
    assert lines[2].startswith("- a.yaml, operation 1 (scale_demand): changes a demand, and there ")
