"""Several sources on one graph: weather, events, other sensors, joined in space and time."""

from __future__ import annotations

from stgraph.joining.feature import join_feature

__all__ = ["join_feature"]
