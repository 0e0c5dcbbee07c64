"""OpenStreetMap files that are cut off, damaged or something else say so, and what to do."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from drawn_osm import osm_text, write_osm
from stgraph_connectors.roads._local import LOCAL_METRES
from stgraph_connectors.roads.graphml import read_graphml
from stgraph_connectors.roads.lines import read_road_lines
from stgraph_connectors.roads.osm import read_osm

from stgraph.errors import DataError, MissingExtraError

ROAD = {10: ("1 2", "highway=primary")}
ENDS = {1: (0.0, 0.0), 2: (1.0, 0.0)}
TEXT = osm_text(ENDS, ROAD)
BOMB = '<!DOCTYPE osm [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.osm", b"", "is empty; fetch"),
        ("blank.osm", b" \n ", "no known kind"),
        ("cut.osm", TEXT.encode()[:180], r"is cut off \(line"),
        ("cut.osm", TEXT.encode()[: TEXT.index("</osm>")], r"is cut off \(line"),
        (
            "broken.osm",
            TEXT.replace("</way>", "</wax>").encode(),
            "not well-formed.*mismatch",
        ),
        ("bomb.osm", TEXT.replace("<osm", BOMB + "<osm", 1).encode(), "has a DOCTYPE"),
        ("page.osm", b"<html><body>503</body></html>", "is XML of <html>, not of <osm>"),
        ("change.osm", b"<osmChange><modify/></osmChange>", "is XML of <osmChange>"),
        ("plain.osm.gz", TEXT.encode(), "is xml, but its name says gzip"),
        ("plain.osm.bz2", TEXT.encode(), "is xml, but its name says bzip2"),
        ("plain.osm.pbf", TEXT.encode(), "is xml, but its name says pbf"),
        ("packed.osm", gzip.compress(TEXT.encode()), "is gzip, but its name says xml"),
        ("zipped.osm", b"PK\x03\x04rest", "is a zip archive; unpack it, but its name says xml"),
        ("layer.gpkg", b"SQLite format 3\0", "read it with `road_lines`"),
        ("answer.json", b'{"elements": []}', r"ask Overpass for \[out:xml\]"),
        ("noise.osm.gz", b"\x1f\x8b" + bytes(range(200)), "cannot be unpacked"),
        (
            "cut.osm.gz",
            gzip.compress(TEXT.encode())[:-20],
            "cut off or damaged",
        ),
        ("cut.osm.bz2", b"BZh91AY&SY", "cannot be unpacked"),
        ("noise.osm.pbf", b"\0\0\0\x0d\n\tOSMHeader" + bytes(80), "PBF cannot be read to its end"),
        ("places.osm", osm_text(ENDS, {}).encode(), "has no way with the tag `highway`"),
        ("rivers.osm", osm_text(ENDS, {10: ("1 2", "waterway=river")}).encode(), "`highway`"),
        (
            "paths.osm",
            TEXT.replace("primary", "path").encode(),
            r"none of 1 ways.*path \(1\)",
        ),
        ("nowhere.osm", TEXT.replace('lat="50', 'lat="95').encode(), "nowhere on Earth"),
        ("nan.osm", TEXT.replace('lat="50.0000000"', 'lat="nan"').encode(), "nowhere on Earth"),
        ("words.osm", TEXT.replace('lat="50.0000000"', 'lat="north"').encode(), "cannot be read"),
        ("no_id.osm", TEXT.replace('<way id="10"', "<way").encode(), "a <way> cannot be read"),
        ("no_ref.osm", TEXT.replace('<nd ref="1"/>', "<nd/>").encode(), "a <nd> of way 10 cannot"),
        ("huge.osm", TEXT.replace('id="1"', f'id="{10**30}"').encode(), "a <node> cannot be read"),
        ("no_nodes.osm", osm_text({}, ROAD).encode(), "no road is left"),
        ("point.osm", osm_text({1: (0, 0)}, {10: ("1 1", "highway=path")}).encode(), "none of 1"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[:14] else "",
)
def test_files_that_are_no_roads(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_osm(path)
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "drvie"}, "`network`: is 'drvie' .did you mean 'drive'"),
        ({"nodes": "segment"}, "`nodes`: is 'segment' .did you mean 'segments'"),
        ({"bbox": (9.1, 50, 9.0, 51)}, "which is no area in degrees"),
        ({"bbox": (9, 50, 10)}, "give .west, south, east, north. in degrees"),
        ({"bbox": (float("nan"), 50, 10, 51)}, "which is no area in degrees"),
        ({"bbox": ("9", "50", "10", "51")}, "give .west"),
        ({"bbox": (500_000, 5_500_000, 501_000, 5_501_000)}, "which is no area in degrees"),
        ({"bbox": (50, 9, 51, 10)}, "in the area.*longitude comes first"),
        ({"bbox": (8.999, 49.999, 9.0005, 50.001)}, "no road has both its ends in the area"),
        ({"boundary": "none.gpkg"}, "none.gpkg: no such file"),
        ({"bbox": (9, 50, 10, 51), "boundary": "a.gpkg"}, "are both given; give one"),
        ({"speeds_kmh": {"primary": -5.0}}, "speeds_kmh.*-5"),
        ({"speeds_kmh": {"primary": "slow"}, "network": "walk"}, "speeds_kmh.*'slow'"),
        ({"speeds_kmh": 30, "network": "walk"}, "speeds_kmh.*30"),
        ({"tags": "name"}, "`tags`: is 'name'"),
        ({"tags": ["name", ""]}, "`tags`"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_osm(write_osm(tmp_path, ENDS, ROAD), **options)


@pytest.mark.parametrize(
    ("shape", "crs", "message"),
    [
        (shapely.Point(9, 50), "EPSG:4326", "has no polygon"),
        (shapely.box(9, 50, 10, 51), None, "has no CRS"),
        (shapely.box(9, 50, 10, 51), LOCAL_METRES, "nowhere on Earth"),
        (shapely.box(20, 50, 21, 51), "EPSG:4326", "in the area"),
    ],
)
def test_boundaries_that_cannot_be_used(tmp_path: Path, shape: Any, crs: Any, message: str) -> None:
    boundary = gpd.GeoDataFrame(geometry=[shape], crs=crs)
    with pytest.raises(DataError, match=message):
        read_osm(write_osm(tmp_path, ENDS, ROAD), boundary=boundary)


def test_boundaries_in_files_that_hold_none(tmp_path: Path) -> None:
    """A table is no layer; GeoParquet is one."""
    path = write_osm(tmp_path, ENDS, ROAD)
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"a\.csv: has no geometry; give a layer of polygons"):
        read_osm(path, boundary=tmp_path / "a.csv")
    there = gpd.GeoDataFrame(geometry=[shapely.box(-180, -90, 180, 90)], crs=4326)
    there.to_parquet(tmp_path / "a.parquet")
    assert read_osm(path, boundary=tmp_path / "a.parquet").n_nodes == 2


def test_several_wrong_options_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 problem(.|\n)*network(.|\n)*nodes(.|\n)*bbox"):
        read_osm(write_osm(tmp_path, ENDS, ROAD), network="x", nodes="y", bbox=())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_osm(tmp_path / "none.osm.pbf")
    with pytest.raises(DataError, match="cannot be opened"):
        read_osm(tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_pbf_that_is_cut_off(data_dir: Path, tmp_path: Path, share: float) -> None:
    """A download that broke off is an error, not a smaller city."""
    whole = (data_dir / "osm-heidelberg" / "heidelberg.osm.pbf").read_bytes()
    cut = tmp_path / "cut.osm.pbf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.osm\.pbf: the PBF cannot be read to its end"):
        read_osm(cut)


@pytest.mark.data
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_packed_file_that_is_cut_off(data_dir: Path, tmp_path: Path, share: float) -> None:
    whole = (data_dir / "osm-small" / "krems.osm.gz").read_bytes()
    cut = tmp_path / "cut.osm.gz"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match="cut off or damaged"):
        read_osm(cut)


def test_a_pbf_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "osmium", None)
    path = tmp_path / "roads.osm.pbf"
    path.write_bytes(b"\0\0\0\x0d\n\tOSMHeader" + bytes(80))
    with pytest.raises(MissingExtraError, match=r"pip install 'stgraph-gis\[pbf\]'"):
        read_osm(path)


def test_nodes_that_the_extract_lacks_cut_the_way(tmp_path: Path) -> None:
    """What lies on known places is kept; nothing jumps over the gap."""
    places = {1: (0.0, 0.0), 2: (1.0, 0.0), 4: (3.0, 0.0), 5: (4.0, 0.0), 6: (9.0, 9.0)}
    ways = {10: ("1 2 3 4 5", "highway=primary"), 11: ("7 6 8", "highway=primary")}
    graph = read_osm(write_osm(tmp_path, places, ways), nodes="junctions")
    ids = graph.node_ids.to_numpy()[graph.edge_index]
    pairs = sorted(zip(*ids.tolist(), strict=True))
    assert pairs == [(1, 2), (2, 1), (4, 5), (5, 4)]
    assert "2 ways refer to nodes that the file lacks (such as way 10, 11)" in str(graph.report)


def test_what_editors_deleted_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "edited.osm"
    gone = '<way id="11" action="delete"><nd ref="2"/><nd ref="1"/><tag k="highway" v="x"/></way>'
    path.write_text(TEXT.replace("</osm>", f"{gone}</osm>"))
    graph = read_osm(path, nodes="junctions")
    assert set(graph.edges["osmid"]) == {"10"}


def test_a_remark_of_the_server_is_told(tmp_path: Path) -> None:
    """Overpass ends an answer that timed out like a whole one."""
    path = tmp_path / "overpass.osm"
    remark = "<remark> runtime error: Query timed out </remark>"
    path.write_text(TEXT.replace("</osm>", f"{remark}</osm>"))
    assert "runtime error: Query timed out" in str(read_osm(path).report)


def test_repeated_and_touching_points(tmp_path: Path) -> None:
    """Nodes repeated in a way, and other nodes at the same place, add no length and no road."""
    places = {1: (0.0, 0.0), 2: (1.0, 0.0), 3: (1.0, 0.0), 4: (2.0, 0.0)}
    graph = read_osm(
        write_osm(tmp_path, places, {10: ("1 1 2 2 3 4 4", "highway=primary")}), nodes="junctions"
    )
    assert graph.n_edges == 2
    assert graph.edges["length_m"].to_numpy() == pytest.approx(2 * 71.474, rel=1e-3)
    assert np.isfinite(graph.edges["bearing_deg"]).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"sensor_id,lat,lon\n1,2,3\n", "is a table that begins with 'sensor_id,lat,lon'; give O"),
        (b"hello", "is text that begins with 'hello'; give OpenStreetMap data"),
        (b"\x00\x01\xff\xfe", "is no known kind; give OpenStreetMap data"),
    ],
)
def test_what_else_a_file_is_is_said_in_words(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=re.escape(words)):
        read_osm(tmp_path / "a.csv")


def test_other_readers_name_the_connector(tmp_path: Path) -> None:
    """A file of OpenStreetMap is no layer of lines and no GraphML."""
    path = tmp_path / "monaco.osm.gz"
    path.write_bytes(b"x")
    for read in (read_road_lines, read_graphml):
        with pytest.raises(DataError, match="read it with the connector `osm`; known endings: "):
            read(path)
    with pytest.raises(DataError, match=r"known endings: \.graphml \.graphml\.gz \.xml"):
        read_graphml(path)
