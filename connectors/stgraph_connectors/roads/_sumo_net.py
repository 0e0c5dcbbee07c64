"""What a SUMO network file says, as tables: junctions, edges, lanes, connections, location."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from stgraph.report import Report
from stgraph_connectors._tables import check_path

# of https://sumo.dlr.de/docs/Simulation/VehiclePermissions.html
VEHICLE_CLASSES = (
    "private", "emergency", "authority", "army", "vip", "pedestrian", "passenger", "hov", "taxi",
    "bus", "coach", "delivery", "truck", "trailer", "motorcycle", "moped", "bicycle", "evehicle",
    "tram", "rail_urban", "rail", "rail_electric", "rail_fast", "ship", "container", "cable_car",
    "subway", "aircraft", "wheelchair", "scooter", "drone", "custom1", "custom2",
)  # fmt: skip
_KNOWN_ROOTS = {
    "osm": "is an OSM file: use the connector osm, or convert it with SUMO's netconvert",
    "graphml": "is a GraphML file: use the connector graphml",
    "nodes": "is one of SUMO's plain files: run netconvert, which makes a .net.xml of them",
    "edges": "is one of SUMO's plain files: run netconvert, which makes a .net.xml of them",
    "routes": "is a SUMO file of routes, not of the network",
    "additional": "is a SUMO file of additional things, not of the network",
}


@dataclass(frozen=True)
class Lane:
    """One lane of an edge."""

    index: int
    length_m: float
    speed_ms: float
    shape: list[tuple[float, float]]
    allow: str
    disallow: str


@dataclass(frozen=True)
class Edge:
    """A directed road between two junctions."""

    attributes: dict[str, str]
    lanes: list[Lane]
    origin: str  # the id that it had in the source of the net, if that is kept


@dataclass
class Net:
    """A network file, with what is inside of junctions left out."""

    location: dict[str, str] = field(default_factory=dict)
    junctions: dict[str, tuple[float, float]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)  # of junctions
    edges: list[Edge] = field(default_factory=list)
    connections: list[dict[str, str]] = field(default_factory=list)
    skipped: int = 0  # edges inside of junctions, crossings, connectors of zones


def parse_net(source: str | Path, report: Report) -> Net | None:
    """Return what a file says, or None and a finding if it is no network file."""
    path = check_path(source, report, role="net", suffixes=(".xml",))
    if path is None:
        return None
    net = Net()
    try:
        with _open(path) as file:
            for element in _elements(file, path.name, report):
                _take(element, net, path.name, report)
    except ET.ParseError as error:
        line, column = error.position
        where = f"{path.name}, line {line}, column {column}"
        what = f"is no well-formed XML ({str(error).split(':')[0]})"
        report.error(where, what, "the file is damaged or cut off: write or download it again")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"cannot be unpacked, it is damaged or cut off ({error})"
        report.error(path.name, what, "write or download it again")
    return None if report.errors else net


def _open(path: Path) -> IO[bytes]:
    """Return a file, unpacked if that is needed; the ending does not matter."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _elements(file: IO[bytes], name: str, report: Report) -> Iterator[ET.Element]:
    """Yield the elements right below the root, each forgotten after use."""
    # expat itself loads nothing from elsewhere and stops what entities would blow up
    events = ET.iterparse(file, events=("start", "end"))  # noqa: S314
    depth, root = 0, None
    for event, element in events:
        if event == "start":
            depth += 1
            if root is None:
                root = element
                if element.tag != "net":
                    what = _KNOWN_ROOTS.get(element.tag, f"has the root <{element.tag}>, not <net>")
                    report.error(name, what, "give a .net.xml of SUMO")
                    return
            continue
        depth -= 1
        if depth == 1 and root is not None:
            yield element
            root.clear()


def _take(element: ET.Element, net: Net, name: str, report: Report) -> None:
    """Add an element to the net."""
    given = dict(element.attrib)
    if element.tag == "location":
        net.location = given
    elif element.tag == "junction" and given.get("type") != "internal":
        x = _number(given, "x", element, name, report)
        y = _number(given, "y", element, name, report)
        net.junctions[given.get("id", "")] = (x, y)
        net.kinds[given.get("id", "")] = given.get("type", "")
    elif element.tag == "edge":
        if given.get("function", "normal") not in ("", "normal"):
            net.skipped += 1
            return
        lanes = [_lane(lane, name, report) for lane in element.findall("lane")]
        origins = dict.fromkeys(
            param.get("value", "")
            for param in element.iter("param")
            if param.get("key") == "origId"
        )
        net.edges.append(Edge(given, lanes, ";".join(origins)))
    elif element.tag == "connection" and not given.get("from", ":").startswith(":"):
        net.connections.append(given)


def _lane(lane: ET.Element, name: str, report: Report) -> Lane:
    """Return a lane."""
    given = dict(lane.attrib)
    return Lane(
        index=int(_number(given, "index", lane, name, report)),
        length_m=_number(given, "length", lane, name, report),
        speed_ms=_number(given, "speed", lane, name, report),
        shape=parse_shape(given.get("shape", ""), f"{name}, lane {given.get('id')!r}", report),
        allow=given.get("allow", ""),
        disallow=given.get("disallow", ""),
    )


def _number(given: dict[str, str], key: str, element: Any, name: str, report: Report) -> float:
    """Return a number of an element, or 0 and a finding where there is none."""
    try:
        return float(given[key])
    except (KeyError, ValueError):
        what = f"is {given[key]!r}, no number" if key in given else "is missing"
        where = f"{name}, {element.tag} {given.get('id')!r}, `{key}`"
        report.error(where, what, "repair it, or make the net again")
        return 0.0


def parse_shape(text: str, where: str, report: Report) -> list[tuple[float, float]]:
    """Return the points of a shape, without heights."""
    try:
        points = [tuple(map(float, point.split(",")[:2])) for point in text.split()]
        return [(x, y) for x, y in points]
    except ValueError:
        report.error(where, f"the shape {text[:40]!r} cannot be read", "it should be x,y x,y ...")
        return []


def permits(allow: str, disallow: str, vehicle_class: str | None) -> bool:
    """Tell whether a lane or connection is open to a class of vehicles; None is any."""
    if vehicle_class is None:
        return True
    allowed, denied = allow.split(), disallow.split()
    if allowed:
        return "all" in allowed or vehicle_class in allowed
    return not ("all" in denied or vehicle_class in denied)
