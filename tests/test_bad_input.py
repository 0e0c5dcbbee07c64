"""Bad input of every kind gives one clear message, exit code 2, and leaves nothing behind.

Each case takes a tiny project that works, breaks one thing, runs one command and says which words
the message must hold: what is wrong, where, and what to do.
"""

# ruff: noqa: E501  # the tables below have one case per line

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stgraph.cli import main

CONFIG = """\
[data]
connector = "stations"
stations = "stations.csv"
readings = "readings.csv"
zone = "Pacific/Auckland"
feature = "flow"
unit = "veh/h"

[graph]
method = "knn"
k = 2

[windows]
window = 4
horizon = 3

[model]
name = "persistence"

[[output]]
sink = "geopackage"
path = "forecast.gpkg"
"""
STATIONS = """\
id,lat,lon
a,-36.840,174.760
b,-36.841,174.761
c,-36.842,174.762
d,-36.843,174.763
"""
N_STEPS = 72


def readings() -> pd.DataFrame:
    """Return three days of hourly readings of the four stations, wide."""
    time = pd.date_range("2024-05-01", periods=N_STEPS, freq="h")
    step = np.arange(N_STEPS)[:, None]
    values = 10 + step % 24 + step * 7 % 5 + np.arange(4)
    return pd.DataFrame(values, index=time.rename("time"), columns=list("abcd")).reset_index()


def build_project(folder: Path) -> Path:
    """Write the project that works and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.toml").write_text(CONFIG)
    (folder / "stations.csv").write_text(STATIONS)
    readings().to_csv(folder / "readings.csv", index=False)
    return folder


@dataclass(frozen=True)
class Case:
    """One thing broken, the command that meets it, and the message it must give."""

    name: str
    breaks: Callable[[Path], object]
    message: str  # regular expression, over lines
    command: str = "check job.toml"


def edit(old: str, new: str, file: str = "job.toml") -> Callable[[Path], object]:
    """Return a mutation that replaces one piece of a text file."""

    def breaks(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return breaks


def add(text: str, file: str = "job.toml") -> Callable[[Path], object]:
    """Return a mutation that appends to a text file."""
    return lambda folder: (folder / file).write_text((folder / file).read_text() + text)


def write(file: str, content: str | bytes) -> Callable[[Path], object]:
    """Return a mutation that replaces a whole file."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / file).write_bytes(data)


def use(key: str, file: str, content: Callable[[], bytes]) -> Callable[[Path], object]:
    """Return a mutation that makes the config read another file."""

    def breaks(folder: Path) -> None:
        (folder / file).write_bytes(content())
        edit(f'{key} = "{key}.csv"', f'{key} = "{file}"')(folder)

    return breaks


def change(mutate: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    """Return a mutation that writes other readings."""
    return lambda folder: mutate(readings()).to_csv(folder / "readings.csv", index=False)


def both(*mutations: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a mutation that does several."""

    def breaks(folder: Path) -> None:
        for mutation in mutations:
            mutation(folder)

    return breaks


def nothing(_folder: Path) -> None:
    """Break nothing; the command itself is wrong."""


def npz(**arrays: object) -> bytes:
    """Return an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def good_npz(**changes: object) -> bytes:
    """Return readings as npz, some arrays replaced; None leaves one out."""
    seconds = pd.date_range("2024-05-01", periods=N_STEPS, freq="h").as_unit("s").asi8
    arrays = {
        "values": np.ones((N_STEPS, 4), dtype=np.float32),
        "timestamps": seconds,
        "sensor_ids": np.array(list("abcd")),
        **changes,
    }
    return npz(**{name: array for name, array in arrays.items() if array is not None})


def parquet() -> bytes:
    """Return readings as Parquet."""
    buffer = io.BytesIO()
    readings().to_parquet(buffer)
    return buffer.getvalue()


# fmt: off
CONFIGS = [
    Case("no such config", nothing, r"nowhere\.toml: there is no such file; .*init", "check nowhere.toml"),
    Case("a folder", lambda f: (f / "x.toml").mkdir(), r"x\.toml: is not a file", "check x.toml"),
    Case("not text", write("job.toml", b"\xff\xfe[\x00d\x00"), r"job\.toml: byte 0 is not UTF-8; save"),
    Case("huge", write("job.toml", b"#" * 1_000_001), r"has 1000001 bytes and a config at most"),
    Case("not TOML", edit('"knn"', "knn"), r"not valid TOML: .*line 10.*; correct that place"),
    Case("key twice", edit("k = 2", "k = 2\nk = 3"), r"not valid TOML: .*line 12"),
    Case("empty", write("job.toml", ""), r"job\.toml, \[data\]: is missing; name the data"),
    Case("unknown table", edit("[windows]", "[window]"), r"`window`: is an unknown table \(did you mean 'windows'"),
    Case("unknown key", edit("horizon", "horizont"), r"\[windows\] `horizont`: is an unknown key \(did you mean 'horizon'"),
    Case("unknown option", edit("zone", "timezone"), r"\[data\] `timezone`: .*mean 'zone'"),
    Case("a value for a table", edit("[graph]\n", "[grap.h]\n"), r"`grap`: is an unknown table"),
    Case("no table", lambda f: write("job.toml", "graph = 3\n" + CONFIG.replace("[graph]", "[train]").replace('method = "knn"\nk = 2\n', ""))(f), r"\[graph\]: is 3 and not a table"),
    Case("text for a number", edit("horizon = 3", 'horizon = "3"'), r"`horizon`: cannot be '3'; give a valid integer"),
    Case("zero steps", edit("horizon = 3", "horizon = 0"), r"`horizon`: cannot be 0; give a number of at least 1"),
    Case("half a step", edit("horizon = 3", "horizon = 1.5"), r"`horizon`: cannot be 1\.5; give a valid integer"),
    Case("not a number", add("[train]\nlearning_rate = nan\n"), r"`learning_rate`: cannot be nan; give a finite number"),
    Case("unknown device", add('[train]\ndevice = "gpu"\n'), r"`device`: cannot be 'gpu'; give 'auto', 'cpu' or 'cuda'"),
    Case("no GPU", add('[train]\ndevice = "cuda"\n'), r"\[train\] `device`: \"cuda\" is not available on this machine; use"),
    Case("unknown country", add('[prepare]\nholidays = "XX"\n'), r"no holidays are known for 'XX'.*; use a country code"),
    Case("fractions", edit("horizon = 3", "horizon = 3\nfractions = [0.9, 0.1, 0.2]"), r"`fractions`: .*add up to 1"),
    Case("two fractions", edit("horizon = 3", "horizon = 3\nfractions = [0.8, 0.2]"), r"`fractions`: cannot be \[0.8, 0.2\]; give one more value"),
    Case("unknown connector", edit('"stations"', '"station"'), r"\[data\] `connector`: cannot be 'station' \(did you mean 'stations'\?\)"),
    Case("unknown builder", edit('"knn"', '"kn"'), r"\[graph\] `method`: cannot be 'kn' \(did you mean 'knn'"),
    Case("unknown model", edit('"persistence"', '"persistance"'), r"\[model\] `name`: cannot be 'persistance' \(did you mean 'persistence'"),
    Case("unknown sink", edit('"geopackage"', '"geopakage"'), r"\[\[output\]\] 1 `sink`: cannot be 'geopakage' \(did you mean 'geopackage'"),
    Case("model option", edit('"persistence"', '"gcn_lstm"\nhiden_size = 8'), r"\[model\] `hiden_size`: .*'hidden_size'"),
    Case("model size", edit('"persistence"', '"gcn_lstm"\nhidden_size = 0'), r"\[model\] `hidden_size`: cannot be 0; give"),
    Case("no neighbours", edit("k = 2", "k = 0"), r"`k`.*0"),
    Case("sink option", add("colour = 3\n"), r"\[\[output\]\] 1 `colour`: is an unknown key"),
    Case("no path", edit('path = "forecast.gpkg"', ""), r"\[\[output\]\] 1 `path`: is missing; add"),
    Case("one bracket", edit("[[output]]", "[output]"), r"\[\[output\]\]: .*two brackets"),
    Case("path twice", add('[[output]]\nsink = "geoparquet"\npath = "forecast.gpkg"\n'), r"'forecast\.gpkg' is given twice"),
    Case("wrong ending", edit("forecast.gpkg", "forecast.shp"), r"\[\[output\]\] 1, geopackage: 'forecast\.shp' does not end in \.gpkg"),
    Case("path for a database", edit('"geopackage"', '"postgis"'), r"\[\[output\]\] 1 `path`: is for other sinks: 'postgis' takes `dsn`; add"),
    Case("database for a file", edit('path = "forecast.gpkg"', 'dsn = "service=traffic"'), r"\[\[output\]\] 1 `dsn`: is for other sinks: 'geopackage' takes `path`"),
    Case("no database", edit('"geopackage"\npath = "forecast.gpkg"', '"postgis"'), r"\[\[output\]\] 1 `dsn`: is missing; add"),
    Case("no DSN", edit('"geopackage"\npath = "forecast.gpkg"', '"postgis"\ndsn = "traffic"'), r"1 `dsn`: is no connection string; write 'service=traffic'"),
    Case("database down", edit('"geopackage"\npath = "forecast.gpkg"', '"postgis"\ndsn = "host=127.0.0.1 port=1"'), r"\[\[output\]\] 1, postgis: .* on 127\.0\.0\.1, port 1 cannot be reached"),
    Case("odd schema", edit('"geopackage"\npath = "forecast.gpkg"', '"postgis"\ndsn = "host=127.0.0.1 port=1"\nschema = "public"'), r"postgis: `schema` is 'public', which belongs to others"),
    Case("patience", edit('"geopackage"\npath = "forecast.gpkg"', '"postgis"\ndsn = "service=x"\npatience = { attempts = 0 }'), r"`patience`: Patience\(.*give at least one attempt"),
    Case("run folder", add('[run]\nfolder = "stations.csv"\n'), r"\[run\] `folder`: .*stations\.csv is a file; choose"),
    Case("unset variable", edit('"stations.csv"', '"${STGRAPH_NOWHERE}/s.csv"'), r"`stations`: names \$\{STGRAPH_NOWHERE\}, which is not set"),
    Case("no stations key", edit('stations = "stations.csv"', ""), r"\[data\] `stations`: is missing; add"),
    Case("steps shown", add("[evaluate]\nsteps = [4]\n"), r"`steps`: cannot be \[4\]; give steps from 1 to 3"),
    Case("unknown baseline", add('[evaluate]\nbaselines = ["weekly"]\n'), r"`baselines`: no model is called 'weekly' \(did you mean 'weekly_profile'"),
    Case("style key", add('[style]\nrampp = "ember"\n'), r"\[style\] `rampp`: is an unknown key .*'ramp'"),
    Case("style ramp", add('[style]\nramp = "embers"\n'), r"\[style\]: no ramp is called 'embers' \(did you mean 'ember'"),
    Case("forecast time", add("[forecast]\nat = 2023-01-01T00:00:00\n"), r"\[forecast\] `at`: 2023-01-01 .*give an instant from"),
    Case("forecast skipped", both(edit("Pacific/Auckland", "Europe/Berlin"), add("[forecast]\nat = 2024-03-31T02:30:00\n")), r"`at` 2024-03-31 02:30:00 exists twice or never in Europe/Berlin"),
    Case("forecast word", add('[forecast]\nat = "tomorrow"\n'), r"`at`: cannot be 'tomorrow'; give a valid datetime"),
    Case("two problems", both(edit("k = 2", 'k = "2"'), edit("window = 4", "window = 0")), r"2 problem\(s\)\n- .*\n- "),
    Case("set without value", nothing, r"--set train: is not `table\.key=value`", "check job.toml --set train"),
    Case("set unknown key", nothing, r"\[train\] `epochs`: is an unknown key .*'max_epochs'", "check job.toml --set train.epochs=3"),
    Case("set nowhere", nothing, r"has no place to go", "check job.toml --set output.7.path=a.gpkg"),
    Case("unknown command", nothing, r"No such command 'chek'", "chek job.toml"),
    Case("unknown switch", nothing, r"No such option: --forse", "check job.toml --forse"),
    Case("init again", nothing, r"job\.toml is already there; .*--force", "init job.toml"),
    Case("init nowhere", nothing, r"the folder .*missing does not exist; create it first", "init missing/job.toml"),
]

GEOJSON = '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry"'
STATION_FILES = [
    Case("no stations file", lambda f: (f / "stations.csv").unlink(), r"stations\.csv"),
    Case("stations a folder", both(lambda f: (f / "d.csv").mkdir(), edit("stations.csv", "d.csv")), r"d\.csv"),
    Case("stations empty", write("stations.csv", ""), r"stations\.csv.*empty"),
    Case("stations header only", write("stations.csv", "id,lat,lon\n"), r"stations\.csv"),
    Case("stations binary", write("stations.csv", bytes(range(256))), r"stations\.csv"),
    Case("no coordinates", edit("id,lat,lon", "id,a,b", "stations.csv"), r"stations\.csv.*lat"),
    Case("swapped", write("stations.csv", "id,lat,lon\na,174.76,-36.84\nb,174.77,-36.85\n"), r"swapped"),
    Case("words for degrees", edit("-36.841", "south", "stations.csv"), r"stations\.csv.*'south'"),
    Case("infinite degrees", edit("-36.841", "inf", "stations.csv"), r"stations\.csv.*inf"),
    Case("station twice", edit("b,", "a,", "stations.csv"), r"stations\.csv.*'a'"),
    Case("station without id", edit("b,", ",", "stations.csv"), r"stations\.csv.*id"),
    Case("no place at all", write("stations.csv", "id,lat,lon\na,,\nb,,\nc,,\nd,,\n"), r"stations\.csv"),
    Case("metres without CRS", edit("id,lat,lon", "id,x,y", "stations.csv"), r"crs"),
    Case("unknown CRS", both(edit("id,lat,lon", "id,x,y", "stations.csv"), edit('"flow"', '"flow"\ncrs = "EPSG:1"')), r"EPSG:1"),
    Case("unknown ending", use("stations", "stations.xyz", lambda: b"1 2 3"), r"stations\.xyz"),
    Case("half a GeoJSON", use("stations", "stations.geojson", GEOJSON.encode), r"stations\.geojson"),
    Case("no GeoPackage", use("stations", "stations.gpkg", lambda: b"no database" * 99), r"stations\.gpkg"),
    Case("unknown column", edit('"flow"', '"flow"\nid_column = "ID"'), r"'ID'"),
    Case("one station", write("stations.csv", "id,lat,lon\na,-36.84,174.76\n"), r"'knn' makes no edge between the 1 node\(s\); choose"),
]
READINGS = [
    Case("no readings file", lambda f: (f / "readings.csv").unlink(), r"readings\.csv"),
    Case("readings empty", write("readings.csv", ""), r"readings\.csv.*empty"),
    Case("readings header only", write("readings.csv", "time,a,b,c,d\n"), r"readings\.csv"),
    Case("words for values", edit("10,11,12,13", "10,many,12,13", "readings.csv"), r"readings\.csv.*'many'"),
    Case("infinite value", edit("10,11,12,13", "10,inf,12,13", "readings.csv"), r"readings\.csv.*inf"),
    Case("no time", change(lambda r: r.drop(columns="time")), r"readings\.csv.*time"),
    Case("words for times", edit("2024-05-01 01:00:00", "noon", "readings.csv"), r"readings\.csv.*'noon'"),
    Case("month or day", change(lambda r: r.assign(time=r["time"].dt.strftime("%d/%m/%Y %H:%M"))), r"readings\.csv.*time_format"),
    Case("no station known", change(lambda r: r.rename(columns=dict(zip("abcd", "wxyz", strict=True)))), r"readings\.csv"),
    Case("twice", both(change(lambda r: pd.concat([r, r.head(3)])), edit('"flow"', '"flow"\nduplicates = "error"')), r"readings\.csv"),
    Case("no value at all", change(lambda r: r.assign(a=np.nan, b=np.nan, c=np.nan, d=np.nan)), r"feature 'flow' has no observation from .*; give"),
    Case("one instant", change(lambda r: r.head(1)), r"step"),
    Case("a distant year", change(lambda r: r.assign(time=r["time"].where(r.index > 0, pd.Timestamp("1700-01-01")))), r"line 2: the grid would have [\d,]+ cells.*correct the time"),
    Case("too short", edit("horizon = 3", "horizon = 300"), r"72 steps are too few for window 4, horizon 300"),
    Case("unknown zone", edit("Pacific/Auckland", "Pacific/Aukland"), r"Pacific/Aukland.*'Pacific/Auckland'"),
    Case("half an npz", use("readings", "readings.npz", lambda: good_npz()[:400]), r"readings\.npz"),
    Case("npz without times", use("readings", "readings.npz", lambda: good_npz(timestamps=None)), r"readings\.npz.*timestamps"),
    Case("npz of another shape", use("readings", "readings.npz", lambda: good_npz(values=np.ones((5, 4)))), r"readings\.npz"),
    Case("npz of text", use("readings", "readings.npz", lambda: good_npz(values=np.full((N_STEPS, 4), "x"))), r"readings\.npz"),
    Case("npz with a pickle", use("readings", "readings.npz", lambda: good_npz(values=np.full((N_STEPS, 4), None))), r"readings\.npz"),
    Case("half a Parquet", use("readings", "readings.parquet", lambda: parquet()[:-99]), r"readings\.parquet"),
    Case("no HDF", use("readings", "readings.h5", lambda: b"\x89HDF\r\n\x1a\n" + b"0" * 500), r"readings\.h5"),
    Case("unknown layout", edit('"flow"', '"flow"\nlayout = "tall"'), r"`layout`: cannot be 'tall'; give"),
    Case("unknown role", edit('"flow"', '"flow"\nroles = {flow = "goal"}'), r"roles"),
    Case("nothing to forecast", edit('"flow"', '"flow"\nroles = {flow = "observed"}'), r"no feature has role 'target'"),
]
# fmt: on


def links(matrix: object) -> Callable[[Path], object]:
    """Return a mutation that gives an adjacency matrix."""

    def breaks(folder: Path) -> None:
        np.savez(folder / "adj.npz", adj_mx=np.asarray(matrix))
        edit('"flow"', '"flow"\nadjacency = "adj.npz"')(folder)

    return breaks


def bad_pickle(folder: Path) -> None:
    """Give a pickle that would run a command."""
    (folder / "adj.pkl").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    edit('"flow"', '"flow"\nadjacency = "adj.pkl"')(folder)


# fmt: off
GRAPHS = [
    Case("matrix of another size", links(np.ones((5, 5))), r"adj\.npz.*5 rows.*4 stations"),
    Case("matrix with NaN", links(np.full((4, 4), np.nan)), r"adj\.npz"),
    Case("flat matrix", links(np.ones(4)), r"adj\.npz"),
    Case("a pickle that acts", bad_pickle, r"adj\.pkl"),
    Case("radius too small", edit('method = "knn"\nk = 2', 'method = "radius"\nradius_m = 1'), r"'radius' makes no edge between the 4 node\(s\); choose"),
    Case("no edges given", edit('method = "knn"\nk = 2', 'method = "given"'), r"the connector makes no edge"),
    Case("option of no builder", edit('method = "knn"', 'method = "none"'), r"\[graph\] `k`: is an unknown key"),
    Case("negative radius", edit('method = "knn"\nk = 2', 'method = "radius"\nradius_m = -1'), r"radius_m"),
]
# fmt: on


def broken_checkpoint(
    name: str, content: bytes | Callable[[bytes], bytes]
) -> Callable[[Path], object]:
    """Return a mutation that breaks one file of the fitted model."""

    def breaks(folder: Path) -> None:
        path = folder / "runs/job/checkpoint" / name
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))

    return breaks


def json_with(**changes: object) -> Callable[[bytes], bytes]:
    """Return a change of the JSON document of a model."""
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


MODEL, WEIGHTS, FORECAST = "model.json", "weights.safetensors", "forecast job.toml"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR."
# fmt: off
CHECKPOINTS = [
    Case("no checkpoint", lambda f: shutil.rmtree(f / "runs"), r"checkpoint holds no model", FORECAST),
    Case("no weights", lambda f: (f / "runs/job/checkpoint" / WEIGHTS).unlink(), r"weights", FORECAST),
    Case("half the weights", broken_checkpoint(WEIGHTS, lambda data: data[:-20]), r"weights", FORECAST),
    Case("weights with a pickle", broken_checkpoint(WEIGHTS, PICKLE), r"weights", FORECAST),
    Case("weights empty", broken_checkpoint(WEIGHTS, b""), r"weights", FORECAST),
    Case("no JSON", broken_checkpoint(MODEL, b"{"), r"model\.json cannot be read", FORECAST),
    Case("JSON list", broken_checkpoint(MODEL, b"[]"), r"model\.json has format None", FORECAST),
    Case("newer format", broken_checkpoint(MODEL, json_with(format=99)), r"has format 99, .*upgrade", FORECAST),
    Case("edited JSON", broken_checkpoint(MODEL, json_with(inputs={})), r"damaged or was edited", FORECAST),
    Case("unknown model inside", broken_checkpoint(MODEL, json_with(model="magic")), r"'magic'", FORECAST),
    Case("other stations", both(edit("b,", "e,", "stations.csv"), change(lambda r: r.rename(columns={"b": "e"}))), r"1 nodes are missing \['b'\], 1 are new \['e'\]", FORECAST),
    Case("station gone", edit("b,-36.841,174.761\n", "", "stations.csv"), r"`nodes`.*\['b'\]", FORECAST),
    Case("other feature", edit('"flow"', '"count"'), r"`features`.*count.*flow", FORECAST),
    Case("other step", edit('"flow"', '"flow"\nstep_minutes = 120'), r"`time`: step .*fitted on", FORECAST),
    Case("other zone", edit("Pacific/Auckland", "Asia/Tokyo"), r"`zone`.*Asia/Tokyo", FORECAST),
    Case("too early", nothing, r"\[forecast\] `at`|needs 4 steps", FORECAST + " --at 2024-05-01T01:00"),
    Case("nothing to test on", change(lambda r: r.head(50)), r"no window lies behind", "evaluate job.toml"),
    Case("info on nothing", lambda f: (f / "empty").mkdir(), r"empty holds no model", "info empty"),
]
# fmt: on


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose model is fitted, to be copied."""
    folder = build_project(tmp_path_factory.mktemp("fitted"))
    assert main(["fit", str(folder / "job.toml"), "--quiet"]) == 0
    return folder


def test_the_project_works_before_anything_is_broken(fitted: Path, tmp_path: Path) -> None:
    """Otherwise every case below would pass for the wrong reason."""
    folder = tmp_path / "project"
    shutil.copytree(fitted, folder)
    for command in ("check", "evaluate", "forecast"):
        assert main([command, str(folder / "job.toml")]) == 0
    assert (folder / "runs/job/forecast.gpkg").exists()


def check_case(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break the project, run the command, and look at code, message and files."""
    case.breaks(folder)
    monkeypatch.chdir(folder)
    before = files(folder)
    capsys.readouterr()
    code = main(case.command.split())
    error = capsys.readouterr().err
    assert code == 2, error
    assert re.search(case.message, error), error
    assert "Traceback" not in error
    assert files(folder) == before


def files(folder: Path) -> dict[str, int]:
    """Return every file of a folder with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "case", [*CONFIGS, *STATION_FILES, *READINGS, *GRAPHS], ids=lambda case: case.name
)
def test_bad_config_or_data(
    case: Case,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken config or file is refused before anything is trained."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_case(case, build_project(tmp_path / "project"), capsys, monkeypatch)


@pytest.mark.parametrize("case", CHECKPOINTS, ids=lambda case: case.name)
def test_bad_checkpoint(
    case: Case,
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken model, or one of another graph, is refused; nothing in it is executed."""
    shutil.copytree(fitted, tmp_path / "project")
    check_case(case, tmp_path / "project", capsys, monkeypatch)
