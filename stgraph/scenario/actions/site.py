"""A road network on which is being built: segments added, split, and put together again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from stgraph.graph import BoolArray, IntArray
from stgraph.neighbours._lines import measure_lines
from stgraph.scenario.road_defaults import RoadValues
from stgraph.scenario.streets import Float64Array, Streets

_CLASS_COLUMNS = ("road_class", "highway")
_END_M = 1.0  # nearer to its end a segment is not split


@dataclass
class Piece:
    """A segment that a scenario adds; positions count the network's own segments first."""

    xy: Float64Array  # (P, 2) its line, CRS of the roads
    source: int
    target: int
    key: str  # what its id is made from
    parent: int  # segment whose forecast it inherits, -1: none
    like: int  # segment whose columns it inherits, -1: none
    length_m: float
    twin: int = -1
    number: int = 0  # of the operation that builds it; 0 for a part of what was there
    values: dict[str, Any] = field(default_factory=dict)  # name, class, lanes, speed, capacity


@dataclass(frozen=True, eq=False)
class Built:
    """A network with what scenarios add to it."""

    streets: Streets  # E segments: those of the baseline in their order, then the new ones
    n_base: int
    replaced: BoolArray  # (E,) segments of the baseline that are there as parts
    number: IntArray  # (E,) operation that builds a segment, 0: none
    turned: dict[int, int]  # of segments turned round: which they stand for


class Site:
    """Collects what is built; the network that it begins with is not changed."""

    def __init__(self, streets: Streets) -> None:
        self.streets = streets
        self.n_base = len(streets)
        self.pieces: list[Piece] = []
        self.parts: dict[int, tuple[int, int]] = {}  # of segments that were split
        self.junctions: list[tuple[float, float]] = []  # new ones, CRS of the roads
        self.junction_keys: list[str] = []
        nodes = streets.roads.nodes
        self._xy = shapely.get_coordinates(np.asarray(shapely.centroid(nodes.geometry)))
        self._flat: dict[int, Any] = {}
        self._flat_xy: Float64Array | None = None
        self._twin: dict[int, int] = {}  # twins that are no longer those of the network

    # ------------------------------------------------------------ what there is

    def line(self, at: int) -> Float64Array:
        """Return the points of a segment, CRS of the roads."""
        if at < self.n_base:
            return shapely.get_coordinates(self.streets.lines[at])
        return self.pieces[at - self.n_base].xy

    def flat(self, at: int) -> Any:
        """Return the line of a segment in metres on a plane."""
        if at < self.n_base:
            return self.streets.flat_lines[at]
        if at not in self._flat:
            self._flat[at] = self.streets.to_plane(shapely.LineString(self.line(at)))
        return self._flat[at]

    def ends(self, at: int) -> tuple[int, int]:
        """Return the junctions where a segment begins and ends."""
        if at < self.n_base:
            return int(self.streets.source[at]), int(self.streets.target[at])
        piece = self.pieces[at - self.n_base]
        return piece.source, piece.target

    def length_m(self, at: int) -> float:
        """Return the length of a segment."""
        if at < self.n_base:
            return float(self.streets.length_m[at])
        return self.pieces[at - self.n_base].length_m

    def twin(self, at: int) -> int:
        """Return the same street the other way, -1 where there is none."""
        if at < self.n_base:
            return self._twin.get(at, int(self.streets.twin[at]))
        return self.pieces[at - self.n_base].twin

    def alive(self) -> IntArray:
        """Return the segments that were not split."""
        every = np.arange(self.n_base + len(self.pieces))
        return every[~np.isin(every, list(self.parts))]

    def flat_lines(self, rows: IntArray) -> npt.NDArray[np.object_]:
        """Return lines in metres on a plane."""
        base = rows[rows < self.n_base]
        new = [self.flat(int(at)) for at in rows[rows >= self.n_base]]
        return np.concatenate([self.streets.flat_lines[base], np.array(new, dtype=object)])

    def flat_junctions(self) -> Float64Array:
        """Return the places of all junctions in metres on a plane."""
        if self._flat_xy is None:
            self._flat_xy = shapely.get_coordinates(
                self.streets.to_plane(shapely.multipoints(self._xy))
            )
        if not self.junctions:
            return self._flat_xy
        new = self.streets.to_plane(shapely.multipoints(self.junctions))
        return np.concatenate([self._flat_xy, shapely.get_coordinates(new)])

    def junction_xy(self) -> Float64Array:
        """Return the places of all junctions, CRS of the roads."""
        return np.concatenate([self._xy, np.array(self.junctions).reshape(-1, 2)])

    # ------------------------------------------------------------ what is done

    def add(self, piece: Piece) -> int:
        """Add a segment and return its position."""
        self.pieces.append(piece)
        return self.n_base + len(self.pieces) - 1

    def pair(self, first: int, second: int) -> None:
        """Make two segments the two ways of one street."""
        for at, other in ((first, second), (second, first)):
            if at < self.n_base:
                self._twin[at] = other
            else:
                self.pieces[at - self.n_base].twin = other

    def split(self, at: int, point: Any) -> int:
        """Split a segment and its twin near a point, and return the junction between the parts.

        Near an end of the segment nothing is split, and the junction there is returned.
        """
        line = self.flat(at)
        along, whole = float(shapely.line_locate_point(line, point)), float(line.length)
        if along < _END_M or whole - along < _END_M:
            return self.ends(at)[0 if along < _END_M else 1]
        first, second = _cut(self.line(at), shapely.get_coordinates(line), along)
        twin = self.twin(at)
        place = (float(second[0, 0]), float(second[0, 1]))
        junction = len(self._xy) + len(self.junctions)
        self.junctions.append(place)
        self.junction_keys.append(f"{self._key(at)} at {along:.2f}")
        self._replace(at, (first, second), along / whole, junction)
        if twin >= 0:
            other = self.flat(twin)
            back = float(shapely.line_locate_point(other, point))
            halves = _cut(self.line(twin), shapely.get_coordinates(other), back)
            halves[0][-1] = halves[1][0] = place
            self._replace(twin, halves, back / float(other.length), junction)
            self.pair(self.parts[at][0], self.parts[twin][1])
            self.pair(self.parts[at][1], self.parts[twin][0])
        return junction

    def _key(self, at: int) -> str:
        """Return what the ids of the parts of a segment are made from."""
        if at < self.n_base:
            return str(int(self.streets.segment_id[at]))
        return self.pieces[at - self.n_base].key

    def _replace(
        self, at: int, halves: tuple[Float64Array, Float64Array], share: float, junction: int
    ) -> None:
        """Put two parts in the place of a segment."""
        source, target = self.ends(at)
        length_m, key = self.length_m(at), self._key(at)
        if at < self.n_base:
            parent = int(self.streets.parent[at])
            mould = Piece(halves[0], source, target, key, parent, at, length_m)
        else:
            mould = self.pieces[at - self.n_base]
        share = min(max(share, 1e-6), 1 - 1e-6)
        ends = ((source, junction, share), (junction, target, 1 - share))
        made = [
            self.add(
                replace(
                    mould,
                    xy=xy,
                    source=begin,
                    target=end,
                    length_m=length_m * part,
                    key=f"{key} part {number} of {share:.6f}",
                    twin=-1,
                )
            )
            for number, (xy, (begin, end, part)) in enumerate(zip(halves, ends, strict=True))
        ]
        self.parts[at] = (made[0], made[1])

    # ------------------------------------------------------------ the result

    def finish(self) -> Built:
        """Return the network with everything that was built."""
        kept = [
            k for k in range(len(self.pieces)) if self.n_base + k not in self.parts
        ]  # parts that were split again are gone
        position = {at: at for at in range(self.n_base)}
        position |= {self.n_base + k: self.n_base + i for i, k in enumerate(kept)}
        pieces = [self.pieces[k] for k in kept]
        base = self.streets
        ids = _new_ids([piece.key for piece in pieces], base.segment_id)
        twin = np.array(
            [position.get(self.twin(at), -1) for at in range(self.n_base)]
            + [position.get(piece.twin, -1) for piece in pieces],
            dtype=np.int64,
        )
        forbidden = self._forbidden(position)
        segment_id = np.concatenate([base.segment_id, ids])
        values = _extend_values(base.values, pieces)
        roads = self._roads(pieces, segment_id, values, forbidden)
        n_all = self.n_base + len(pieces)
        replaced = np.zeros(n_all, dtype=np.bool_)
        replaced[[at for at in self.parts if at < self.n_base]] = True
        table = roads.edges
        assert isinstance(table, gpd.GeoDataFrame)  # noqa: S101 - made here
        streets = Streets(
            roads=roads,
            segment_id=segment_id,
            source=roads.edge_index[0],
            target=roads.edge_index[1],
            lines=np.asarray(table.geometry, dtype=object),
            length_m=np.concatenate([base.length_m, [piece.length_m for piece in pieces]]),
            values=values,
            twin=twin,
            forbidden=forbidden,
            table=pd.DataFrame(table.drop(columns=table.geometry.name)),
            parent=np.concatenate([base.parent, [piece.parent for piece in pieces]]).astype(int),
        )
        number = np.concatenate([np.zeros(self.n_base), [piece.number for piece in pieces]])
        turned = {
            self.n_base + k: piece.values["turned"]
            for k, piece in enumerate(pieces)
            if "turned" in piece.values
        }
        return Built(streets, self.n_base, replaced, number.astype(np.int64), turned)

    def _forbidden(self, position: dict[int, int]) -> IntArray:
        """Return forbidden turns, those at segments that were split also of their parts."""

        def end(at: int, which: int) -> int:
            while at in self.parts:
                at = self.parts[at][which]
            return position[at]

        given = self.streets.forbidden
        split = np.isin(given, list(self.parts)).any(axis=0)
        carried = [[end(int(a), 1), end(int(b), 0)] for a, b in given[:, split].T]
        return np.concatenate([given, np.array(carried, np.int64).reshape(-1, 2).T], axis=1)

    def _roads(
        self,
        pieces: list[Piece],
        segment_id: IntArray,
        values: RoadValues,
        forbidden: IntArray,
    ) -> Any:
        """Return the graph of junctions and segments."""
        roads = self.streets.roads
        new = [shapely.LineString(piece.xy) for piece in pieces]
        ends = np.array([(p.source, p.target) for p in pieces], np.int64).reshape(-1, 2).T
        length_m = [piece.length_m for piece in pieces]
        restrictions = segment_id[forbidden].T.tolist()
        return roads.replace(
            nodes=self._nodes(),
            edges=_extend_edges(roads.edges, pieces, new, segment_id, values, roads.nodes.crs),
            edge_index=np.concatenate([roads.edge_index, ends], axis=1),
            edge_weight=np.concatenate([roads.edge_weight, length_m]).astype(np.float32),
            provenance={
                **roads.provenance,
                **({"restrictions": restrictions} if restrictions else {}),
            },
            values=None,
            mask=None,
            time=None,
            features=(),
        )

    def _nodes(self) -> gpd.GeoDataFrame:
        """Return the junctions with the new ones."""
        nodes = self.streets.roads.nodes
        if not self.junctions:
            return nodes
        index: pd.Index
        if pd.api.types.is_integer_dtype(nodes.index.dtype):
            index = pd.Index(_new_ids(self.junction_keys, nodes.index.to_numpy()))
        else:
            index = pd.Index([f"new {key}" for key in self.junction_keys])
        table = nodes.reindex(nodes.index.append(index))
        table.index.name = nodes.index.name
        points = np.concatenate(
            [np.asarray(nodes.geometry, dtype=object), shapely.points(self.junctions)]
        )
        kind = table["kind"].astype(object).where(table["kind"].notna(), "junction")
        shapes = gpd.GeoSeries(points, index=table.index, crs=nodes.crs)
        located: gpd.GeoDataFrame = table.set_geometry(shapes).assign(kind=kind)
        return located


def _cut(xy: Float64Array, flat: Float64Array, along_m: float) -> tuple[Float64Array, Float64Array]:
    """Return the two parts of a line, cut so many metres along it; `flat` is it in metres."""
    pieces = np.linalg.norm(np.diff(flat, axis=0), axis=1)
    reach = np.cumsum(pieces)
    k = min(int(np.searchsorted(reach, along_m)), len(pieces) - 1)
    before = reach[k] - pieces[k]
    share = 0.0 if pieces[k] == 0 else min(max((along_m - before) / pieces[k], 0.0), 1.0)
    place = xy[k] + share * (xy[k + 1] - xy[k])
    return _tidy(np.vstack([xy[: k + 1], place])), _tidy(np.vstack([place, xy[k + 1 :]]))


def _tidy(xy: Float64Array) -> Float64Array:
    """Return a line without points that repeat, of two points at least."""
    moving = np.r_[True, (np.diff(xy, axis=0) != 0).any(axis=1)]
    return xy[moving] if moving.sum() >= 2 else xy[[0, -1]]


def _new_ids(keys: list[str], taken: npt.NDArray[Any]) -> IntArray:
    """Return negative ids of 40 bits made from texts, none of which is taken."""
    used = set(taken.tolist())
    ids = []
    for key in keys:
        text = key
        while True:
            number = -1 - int.from_bytes(hashlib.sha256(text.encode()).digest()[:5], "big")
            if number not in used:
                break
            text += "+"
        used.add(number)
        ids.append(number)
    return np.array(ids, dtype=np.int64)


def _extend_values(values: RoadValues, pieces: list[Piece]) -> RoadValues:
    """Return what holds on every segment, with the new ones."""
    if not pieces:
        return values

    def column(name: str) -> npt.NDArray[Any]:
        old = getattr(values, name)
        new = [p.values[name] if name in p.values else old[p.like] for p in pieces]
        return np.concatenate([old, np.array(new, dtype=old.dtype)])

    return RoadValues(
        column("road_class"), column("speed_kmh"), column("lanes"), column("capacity_vph")
    )


def _extend_edges(
    edges: Any,
    pieces: list[Piece],
    lines: list[Any],
    segment_id: IntArray,
    values: RoadValues,
    crs: pyproj.CRS | None,
) -> gpd.GeoDataFrame:
    """Return the table of segments with the new ones, which inherit the columns of others."""
    base: gpd.GeoDataFrame = edges.reset_index(drop=True)
    if not pieces:
        return base
    n_base, n_new = len(base), len(pieces)
    rows = np.concatenate([np.arange(n_base), [piece.like for piece in pieces]]).astype(int)
    old = pd.DataFrame(base.drop(columns=base.geometry.name))
    table = old.reindex(rows).reset_index(drop=True)
    new = np.arange(n_base, n_base + n_new)
    table["segment_id"] = segment_id
    measured = measure_lines(lines, crs) if crs is not None else None
    columns: dict[str, Any] = {
        "length_m": [piece.length_m for piece in pieces],
        "speed_kmh": values.speed_kmh[new],
        "lanes": values.lanes[new],
        "capacity_vph": values.capacity_vph[new],
        "travel_time_s": [p.length_m for p in pieces] / (values.speed_kmh[new] / 3.6),
    }
    for name in ("bearing_deg", "bearing_start_deg", "bearing_end_deg"):
        columns[name] = getattr(measured, name) if measured else np.nan
    for name, value in columns.items():
        if name in table:
            table[name] = table[name].astype(np.float64)
            table.loc[new, name] = np.asarray(value, dtype=np.float64)
    _name_new(table, pieces, n_base)
    geometry = np.concatenate(
        [np.asarray(base.geometry, dtype=object), np.array(lines, dtype=object)]
    )
    return gpd.GeoDataFrame(table, geometry=geometry, crs=crs)


def _name_new(table: pd.DataFrame, pieces: list[Piece], n_base: int) -> None:
    """Write name, class and direction of new roads into their rows."""
    if "name" not in table:
        table["name"] = pd.Series(pd.NA, index=table.index, dtype=object)
    built = [(n_base + k, piece) for k, piece in enumerate(pieces) if piece.like < 0]
    for name in ("name", *_CLASS_COLUMNS, "oneway", "speed_imputed"):
        if name not in table or not built:
            continue
        column = table[name].astype(object)
        for row, piece in built:
            known = {**piece.values, "highway": piece.values["road_class"], "speed_imputed": False}
            column.iloc[row] = known[name]
        table[name] = column.infer_objects()
