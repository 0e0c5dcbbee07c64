"""To and from the types of other libraries: pure conversion, always in pairs.

Each pair says what the other type cannot carry. ``from_x(to_x(graph))`` gives an equal graph
wherever it can carry everything.
"""

from __future__ import annotations

from stgraph.convert.networkx import from_networkx, to_networkx
from stgraph.convert.pgt import from_pgt, to_pgt
from stgraph.convert.pyg import from_pyg, to_pyg
from stgraph.convert.tables import from_long, from_wide, to_long, to_wide
from stgraph.convert.xarray import from_xarray, to_xarray

__all__ = [
    "from_long",
    "from_networkx",
    "from_pgt",
    "from_pyg",
    "from_wide",
    "from_xarray",
    "to_long",
    "to_networkx",
    "to_pgt",
    "to_pyg",
    "to_wide",
    "to_xarray",
]
