"""The zones and places that operations on a demand name."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd

from stgraph.errors import nearest_name
from stgraph.graph import STGraph
from stgraph.report import Report
from stgraph.scenario.demand import Demand
from stgraph.scenario.operations import AddDemand, ScaleDemand
from stgraph.scenario.week import Floats
from stgraph.scenario.zoning import choose_plane, listed

_FAR_M = 2000.0  # a place farther from any zone is not in the area


class Places:
    """The zones of a demand, and those that events need besides."""

    def __init__(self, demand: Demand, roads: STGraph | None) -> None:
        """Begin with the zones that there are."""
        self.demand, self.roads = demand, roads
        self.ids = [str(one) for one in demand.zones.index]
        self.junctions = [int(one) for one in demand.junctions]
        self.added: list[int] = []  # junctions of new zones
        self.of: dict[int, int] = {}  # position of the zone by id() of the operation

    def find(self, operation: AddDemand, report: Report, where: str) -> None:
        """Note in which zone an event takes place."""
        at, place = operation.at, None
        if at.zone is not None:
            place = self.ids.index(at.zone) if at.zone in self.ids else None
            if place is None:
                hint = nearest_name(at.zone, self.ids, n=3)
                todo = f"there are {len(self.ids)}, such as {listed(self.ids, 3)}"
                report.error(f"{where}, `at.zone`", f"no zone {at.zone!r}{hint}", todo)
        elif at.node is not None:
            place = self._at_node(at.node, report, where)
        elif at.lon is not None and at.lat is not None:
            place = self._nearest(at.lon, at.lat, report, where)
        if place is not None:
            self.of[id(operation)] = place

    def _at_node(self, node: str, report: Report, where: str) -> int | None:
        """Return the zone of a junction, a new one if need be."""
        if self.roads is not None:
            known = [str(one) for one in self.roads.node_ids]
            if node not in known:
                what = f"no junction {node!r}{nearest_name(node, known, n=3)}"
                report.error(f"{where}, `at.node`", what, f"ids look like {listed(known, 3)}")
                return None
            junction = known.index(node)
        else:
            names = [str(one) for one in self.demand.zones.get("junction", [])]
            if node not in names:
                what = f"no zone has the junction {node!r}{nearest_name(node, names, n=3)}"
                report.error(f"{where}, `at.node`", what, "name a zone, or pass the roads")
                return None
            junction = self.junctions[names.index(node)]
        if junction in self.junctions:
            return self.junctions.index(junction)
        self.junctions.append(junction)
        self.added.append(junction)
        return len(self.junctions) - 1

    def _nearest(self, lon: float, lat: float, report: Report, where: str) -> int | None:
        """Return the zone that holds a place, else the nearest one."""
        shapes = self.demand.zones.geometry
        if shapes.crs is None or (shapes.isna() | shapes.is_empty).all():
            report.error(f"{where}, `at`", "the zones have no places", "name a zone or a node")
            return None
        plane = choose_plane(shapes)
        point = gpd.GeoSeries(gpd.points_from_xy([lon], [lat]), crs=4326).to_crs(plane).iloc[0]
        away = shapes.to_crs(plane).distance(point).to_numpy(dtype=np.float64)
        away = np.where(np.isfinite(away), away, np.inf)  # too far for this plane
        nearest = int(np.argmin(away))
        if away[nearest] > _FAR_M:
            what = f"{lon:g} {lat:g} is {away[nearest] / 1000:.1f} km from the nearest zone, "
            what += self.ids[nearest]
            todo = "longitude comes first; or name a zone or node"
            report.error(f"{where}, `at`", what, todo)
            return None
        return nearest

    def zones(self) -> gpd.GeoDataFrame:
        """Return all zones."""
        zones, roads = self.demand.zones, self.roads
        if not self.added or roads is None:
            return zones
        nodes = roads.nodes.iloc[self.added]
        geometry = nodes.geometry if zones.crs is None else nodes.geometry.to_crs(zones.crs)
        more = gpd.GeoDataFrame(
            {"junction": nodes.index, zones.geometry.name: geometry.to_numpy()},
            index=[f"node {one}" for one in nodes.index],
            geometry=zones.geometry.name,
            crs=zones.crs,
        )
        found = more.reindex(columns=zones.columns)
        joined = {name: [*zones[name], *found[name]] for name in zones.columns}
        index = pd.Index([*zones.index, *more.index], name=zones.index.name)
        return gpd.GeoDataFrame(joined, index=index, geometry=zones.geometry.name, crs=zones.crs)


def check_zones(operation: ScaleDemand, demand: Demand, report: Report, where: str) -> None:
    """Note ids of zones that there are not."""
    known = [str(one) for one in demand.zones.index]
    for field in ("from_zone", "to_zone"):
        given = getattr(operation, field)
        for one in as_ids(given):
            if one not in known:
                what = f"no zone {one!r}{nearest_name(one, known, n=3)}"
                todo = f"there are {len(known)}, such as {listed(known, 3)}; or 'any'"
                report.error(f"{where}, `{field}`", what, todo)


def as_ids(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the ids that a field names, none for any."""
    return () if given == "any" else (given,) if isinstance(given, str) else given


def find_origins(operation: AddDemand, demand: Demand, report: Report, where: str) -> Floats | None:
    """Return the (Z,) weights of a column of the zones; None: as trips are now."""
    if operation.origins == "demand":
        return None
    zones = demand.zones
    names = [str(one) for one in zones.columns if one != zones.geometry.name]
    field = f"{where}, `origins`"
    if operation.origins not in names:
        what = f"no column {operation.origins!r}{nearest_name(operation.origins, names, n=3)}"
        report.error(field, what, f"use 'demand' or one of {names}")
        return None
    values = pd.to_numeric(zones[operation.origins], errors="coerce").fillna(0.0)
    weight: Floats = values.to_numpy(dtype=np.float64)
    if (weight < 0).any() or not weight.sum() > 0 or not np.isfinite(weight).all():
        what = f"column {operation.origins!r} has weights below 0, or none above"
        report.error(field, what, "use a column of numbers such as inhabitants")
        return None
    return weight
