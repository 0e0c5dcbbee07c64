"""An issue of a forecast, checked and brought into the order of the database."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stgraph.errors import DataError
from stgraph.graph import Feature, STGraph
from stgraph_connectors.postgis.places import group_quantiles
from stgraph_connectors.postgis.publishing import draw_course, short_names
from stgraph_connectors.sinks._document import describe_graph
from stgraph_connectors.styles import Style, main_feature, quantile_of, stem_of

OWN_COLUMNS = (
    "fid",
    "node_id",
    "horizon",
    "target_time",
    "local_time",
    "issued_at",
    "trend",
    "geom",
)

_MAX_HORIZON = 32_767
_MAX_SAMPLE = 2_000_000  # values looked at when classes are chosen


@dataclass(frozen=True)
class Issue:
    """A forecast, ready for the database."""

    graph: STGraph
    issued_at: pd.Timestamp
    step: pd.Timedelta
    means: dict[str, npt.NDArray[np.float32]]  # quantity -> (N, H)
    quantiles: dict[str, npt.NDArray[np.float32]]  # quantity -> (N, L, H)
    levels: dict[str, list[float]]
    columns: tuple[str, ...]  # of the layer, one per feature of the graph
    style: Style | None
    sample: STGraph  # what classes are chosen from
    drawn: str  # the quantity of the map tip's line of blocks
    trend: dict[str, npt.NDArray[np.bytes_]]  # quantity -> (N,) lines of blocks, UTF-8
    document: dict[str, Any]
    digest: str

    @property
    def features(self) -> list[Feature]:
        """The quantities; a quantile belongs to its quantity."""
        return [feature for feature in self.graph.features if feature.name in self.means]

    @property
    def partition(self) -> str:
        """Name of the table that holds the day of the issue."""
        return f"forecast_{self.issued_at:%Y%m%d}"


def prepare_issue(graph: STGraph, style: Style | None, readings: STGraph | None = None) -> Issue:
    """Check a forecast and bring its values into the order of the database.

    Raises
    ------
    DataError
        The graph is no forecast that can be kept: no issue time, no nodes, no step.
    """
    issued_at, step = _issue_time(graph)
    if not graph.n_nodes or not 1 <= graph.n_steps <= _MAX_HORIZON or not graph.n_features:
        raise DataError(f"{graph!r} has no values to publish")
    groups = group_quantiles(graph.features)
    values = np.where(graph.mask, graph.values, np.float32("nan")).transpose(1, 2, 0)  # (N, F, H)
    names = graph.feature_names
    means = {name: np.ascontiguousarray(values[:, names.index(name)]) for name in groups}
    quantiles = {name: np.ascontiguousarray(values[:, at]) for name, at in groups.items()}
    levels = {
        name: [quantile_of(names[i]) or 0.0 for i in positions]
        for name, positions in groups.items()
    }
    document = describe_graph(graph, reserved=OWN_COLUMNS)
    shown = main_feature(graph, style).name
    digest = hashlib.blake2b(digest_size=16)
    for part in (json.dumps(document, sort_keys=True), "\x00".join(map(str, graph.node_ids))):
        digest.update(part.encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(values).data)
    return Issue(
        graph=graph,
        issued_at=issued_at,
        step=step,
        means=means,
        quantiles=quantiles,
        levels=levels,
        columns=short_names([feature["column"] for feature in document["features"]]),
        style=style,
        sample=graph if readings is None else _values_like(graph, readings),
        drawn=shown if shown in groups else stem_of(shown),
        trend={name: draw_course(mean) for name, mean in means.items()},
        document=document,
        digest=digest.hexdigest(),
    )


def _values_like(graph: STGraph, readings: STGraph) -> STGraph:
    """Return the readings with the features of the forecast, so that days give the classes.

    A forecast made at night knows nothing of the rush hour.
    """
    names = readings.feature_names
    stems = [stem_of(name) for name in graph.feature_names]
    if not readings.n_steps or any(stem not in names for stem in stems):
        return graph
    most = max(1, _MAX_SAMPLE // (readings.n_nodes * len(stems)))
    recent = readings.select_steps(max(0, readings.n_steps - most))
    at = [names.index(stem) for stem in stems]
    return recent.replace(
        values=recent.values[:, :, at], mask=recent.mask[:, :, at], features=graph.features
    )


def _issue_time(graph: STGraph) -> tuple[pd.Timestamp, pd.Timedelta]:
    """Return when a forecast was issued, and its step."""
    provenance = graph.provenance
    if provenance.get("kind") != "forecast" or not provenance.get("issued_at"):
        raise DataError(
            "the graph is no forecast: `provenance` needs kind='forecast' and `issued_at`; "
            "readings go to publish_observations()"
        )
    issued_at = pd.Timestamp(provenance["issued_at"])
    issued_at = (
        issued_at.tz_localize("UTC") if issued_at.tz is None else issued_at.tz_convert("UTC")
    )
    step = graph.step
    if step is None and "step_minutes" in provenance:
        step = pd.Timedelta(minutes=float(provenance["step_minutes"]))
    if step is None:
        raise DataError("the forecast has one instant and no `step_minutes` in its `provenance`")
    return issued_at, step
