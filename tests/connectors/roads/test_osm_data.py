"""Real extracts of OpenStreetMap: readers agree, turns are turns, areas are parts of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stgraph_connectors.roads.osm import read_osm

from stgraph.graph import STGraph

pytestmark = pytest.mark.data

OLD_TOWN = (7.415, 43.725, 7.43, 43.74)


@pytest.fixture(scope="module")
def monaco(data_dir: Path) -> Path:
    return data_dir / "osm-small" / "monaco.osm.pbf"


@pytest.fixture(scope="module")
def heidelberg(data_dir: Path) -> STGraph:
    return read_osm(data_dir / "osm-heidelberg" / "heidelberg.osm.pbf", nodes="junctions")


def test_xml_and_pbf_give_the_same_graph(monaco: Path, tmp_path: Path) -> None:
    """Also of a part, where the PBF reader leaves far ways out as it reads."""
    osmium = pytest.importorskip("osmium")
    as_xml = tmp_path / "monaco.osm"
    with osmium.SimpleWriter(str(as_xml)) as writer:
        for item in osmium.FileProcessor(str(monaco)):
            writer.add(item)
    for bbox in (None, OLD_TOWN):
        first, second = (
            read_osm(path, network="all", nodes="junctions", bbox=bbox) for path in (monaco, as_xml)
        )
        assert first.nodes.equals(second.nodes)
        assert first.edges.equals(second.edges)
        assert first.provenance == second.provenance


def test_an_area_is_a_part_of_the_whole(monaco: Path) -> None:
    """The same segments with the same ids, lines and tags."""
    whole = read_osm(monaco, nodes="junctions").edges.set_index("segment_id")
    part = read_osm(monaco, nodes="junctions", bbox=OLD_TOWN).edges.set_index("segment_id")
    assert 100 < len(part) < len(whole)
    same = whole.loc[part.index]
    assert same.geometry.geom_equals(part.geometry).all()
    assert (same["osmid"] == part["osmid"]).all()


def test_forbidden_turns_are_turns(heidelberg: STGraph) -> None:
    """Each pair meets at a junction, and a graph of segments lacks just these edges."""
    edges = heidelberg.edges.reset_index(drop=True)
    place = {segment: i for i, segment in enumerate(edges["segment_id"])}
    pairs = np.array([[place[a], place[b]] for a, b in heidelberg.provenance["restrictions"]])
    assert 400 < len(pairs) < 700
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    source, target = heidelberg.edge_index
    assert (target[pairs[:, 0]] == source[pairs[:, 1]]).all()


def test_reading_twice_gives_the_same(heidelberg: STGraph, data_dir: Path) -> None:
    again = read_osm(data_dir / "osm-heidelberg" / "heidelberg.osm.pbf", nodes="junctions")
    assert again.edges.equals(heidelberg.edges)
    assert again.provenance == heidelberg.provenance


def test_speeds_and_lanes_are_likely(heidelberg: STGraph) -> None:
    """Speeds are legal ones, and two thirds of them are from the map."""
    edges = heidelberg.edges
    assert edges["speed_kmh"].between(4, 130).all()
    assert 0.6 < (~edges["speed_imputed"]).mean() < 0.7
    assert edges["lanes"].dropna().between(1, 6).all()
    assert (edges["length_m"] > 0).all()
    motorway = edges["highway"].str.contains("motorway", regex=False)
    assert edges.loc[motorway & ~edges["highway"].str.contains("link"), "oneway"].all()
