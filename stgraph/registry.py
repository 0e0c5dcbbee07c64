"""Names of connectors, models, sinks and graph builders, loaded only when used.

A third party adds its own through the entry-point groups ``stgraph.connectors``,
``stgraph.models``, ``stgraph.sinks`` and ``stgraph.neighbours``. The group ``database`` has what
the command line does with a database beside publishing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, Literal

from stgraph.errors import UnknownNameError, nearest_name

Group = Literal["connectors", "models", "sinks", "neighbours", "database", "scenario_sinks"]

# name -> "module:attribute"; strings only, so that looking a name up imports nothing
_BUILTIN: dict[Group, dict[str, str]] = {
    "connectors": {
        "auckland": "stgraph_connectors.auckland:read_auckland",
        "grid": "stgraph_connectors.grids.grid:read_grid",
        "raster": "stgraph_connectors.grids.raster:read_raster",
        "database": "stgraph_connectors.database:read_database",
        "graph": "stgraph_connectors.graph_file:read_graph",
        "gmns": "stgraph_connectors.roads.gmns:read_gmns",
        "graphml": "stgraph_connectors.roads.graphml:read_graphml",
        "od": "stgraph_connectors.od:read_od",
        "osmnx": "stgraph_connectors.roads.osmnx:read_osmnx",
        "osm": "stgraph_connectors.roads.osm:read_osm",
        "pgt_json": "stgraph_connectors.pgt_json:read_pgt_json",
        "events": "stgraph_connectors.events:read_events",
        "gtfs": "stgraph_connectors.gtfs:read_gtfs",
        "postgis": "stgraph_connectors.postgis.reading:read_observations",
        "published": "stgraph_connectors.published:read_published",
        "road_lines": "stgraph_connectors.roads.lines:read_road_lines",
        "roads": "stgraph_connectors.roads.any:read_roads",
        "stations": "stgraph_connectors.stations:read_stations",
        "sumo": "stgraph_connectors.roads.sumo:read_sumo",
        "tntp": "stgraph_connectors.roads.tntp:read_tntp",
        "trajectories": "stgraph_connectors.trajectories:read_trajectories",
    },
    "neighbours": {
        "knn": "stgraph.neighbours:build_knn",
        "radius": "stgraph.neighbours:build_radius",
        "gaussian": "stgraph.neighbours:build_gaussian",
        "delaunay": "stgraph.neighbours:build_delaunay",
        "contiguity": "stgraph.neighbours:build_contiguity",
        "k_ring": "stgraph.neighbours:build_k_ring",
        "network": "stgraph.neighbours:build_network",
    },
    "models": {
        "gcn_lstm": "stgraph.models.gcn_lstm:GCNLSTM",
        "gconv_lstm": "stgraph.models.gconv_lstm:GConvLSTMModel",
        "gc_lstm": "stgraph.models.gc_lstm:GCLSTMModel",
        "t_gcn": "stgraph.models.t_gcn:TGCNModel",
        "dcrnn": "stgraph.models.dcrnn:DCRNNModel",
        "a3t_gcn": "stgraph.models.a3t_gcn:A3TGCNModel",
        "graph_transformer": "stgraph.models.graph_transformer:GraphTransformer",
        "identity_mlp": "stgraph.models.identity_mlp:IdentityMLP",
        "pgt": "stgraph.models.pgt:PGT",
        "graph_wavenet": "stgraph.models.graph_wavenet:GraphWaveNet",
        "stgcn": "stgraph.models.stgcn:STGCN",
        "tcn": "stgraph.models.tcn:TCN",
        "tdnn": "stgraph.models.tdnn:TDNN",
        "temporal_attention": "stgraph.models.temporal_attention:TemporalAttention",
        "spacetime_patches": "stgraph.models.spacetime_patches:SpacetimePatches",
        "cnn_3d": "stgraph.models.cnn_3d:CNN3D",
        "conv_lstm": "stgraph.models.conv_lstm:ConvLSTM",
        "cnn_lstm": "stgraph.models.cnn_lstm:CNNLSTM",
        "persistence": "stgraph.models.baselines:Persistence",
        "seasonal_naive": "stgraph.models.baselines:SeasonalNaive",
        "weekly_profile": "stgraph.models.baselines:WeeklyProfile",
        "profile_decay": "stgraph.models.baselines:ProfileDecay",
        "ridge": "stgraph.models.baselines:GlobalRidge",
        "ridge_node": "stgraph.models.baselines:NodeRidge",
        "var": "stgraph.models.baselines:VAR",
        "lightgbm": "stgraph.models.boosting:Boosting",
        "ensemble": "stgraph.models.ensemble:Ensemble",
        "auto": "stgraph.models.ensemble:Auto",
    },
    "sinks": {
        "geopackage": "stgraph_connectors.sinks.geopackage:write_geopackage",
        "geoparquet": "stgraph_connectors.sinks.geoparquet:write_geoparquet",
        "graph": "stgraph_connectors.sinks.graph_file:write_graph",
        "map": "stgraph_connectors.sinks.map:write_map",
        "postgis": "stgraph_connectors.sinks.postgis:write_postgis",
        "animation": "stgraph_connectors.sinks.animation:write_animation",
    },
    "scenario_sinks": {
        "geopackage": "stgraph_connectors.sinks.scenario_geopackage:write_scenario_geopackage",
        "postgis": "stgraph_connectors.postgis.scenarios:write_scenario_postgis",
    },
    "database": {
        "check": "stgraph_connectors.postgis.check:check_database",
        "describe": "stgraph_connectors.postgis.connect:describe_dsn",
        "describe_url": "stgraph_connectors._sql:describe_url",
        "init": "stgraph_connectors.postgis.schema:init_schema",
        "project": "stgraph_connectors.postgis.project:write_project",
        "prune": "stgraph_connectors.postgis.pruning:prune",
        "remove_scenarios": "stgraph_connectors.postgis.scenarios:remove_scenarios",
        "remove_scenarios_from_file": (
            "stgraph_connectors.sinks.scenario_geopackage:remove_scenarios"
        ),
        "resolve_url": "stgraph_connectors._sql:resolve_url",
        "status": "stgraph_connectors.postgis.status:database_status",
        "upgrade": "stgraph_connectors.postgis.schema:upgrade_schema",
    },
}


def names(group: Group) -> list[str]:
    """Return the known names of a group, ours and those of installed packages."""
    return sorted({*_BUILTIN[group], *(entry.name for entry in _entries(group))})


def load(group: Group, name: str) -> Any:
    """Return what is registered under a name.

    Parameters
    ----------
    group
        One of ``connectors``, ``models``, ``sinks``, ``neighbours``, ``database``,
        ``scenario_sinks``.
    name
        A registered name, as `names` lists them.

    Returns
    -------
    Any
        The function or class behind the name.

    Raises
    ------
    UnknownNameError
        Nobody registered the name; the message holds the known ones and the closest.
    """
    if name in _BUILTIN[group]:
        module, attribute = _BUILTIN[group][name].split(":")
        return getattr(importlib.import_module(module), attribute)
    for entry in _entries(group):
        if entry.name == name:
            return entry.load()
    known = names(group)
    raise UnknownNameError(
        f"no {group.removesuffix('s')} is called {name!r}{nearest_name(name, known)}; "
        f"there are {known}"
    )


def _entries(group: Group) -> Any:
    """Return the entry points that installed packages offer for a group."""
    return entry_points(group=f"stgraph.{group}")
