"""Trips between zones, hour by hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd

from stgraph.graph import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Demand:
    """How many cars want to go from zone to zone, in a typical week or day."""

    zones: gpd.GeoDataFrame  # Z rows, indexed by zone id, with a place each and perhaps weights
    junctions: IntArray  # (Z,) positions of the junctions where their trips begin and end
    trips: FloatArray  # (P, Z, Z) cars per hour, from row to column
    period_of_hour: IntArray  # (7, 24) which of the P holds on a weekday (Monday first) and hour
    provenance: Mapping[str, Any] = field(default_factory=dict)  # source, or how it was fitted

    @property
    def n_zones(self) -> int:
        """Number of zones Z."""
        return len(self.zones)
