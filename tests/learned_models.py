"""Every learned model in a size for tests: one line here, and all common tests run on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from stgraph.graph import STGraph

TINY_DECODER = {"hidden_size": 8, "node_embedding_size": 4, "adaptive_rank": 2}

# name -> options that make it tiny
SMALL: dict[str, dict[str, Any]] = {
    "cnn_3d": {**TINY_DECODER, "n_channels": 4},
    "cnn_lstm": {**TINY_DECODER, "n_channels": 4},
    "conv_lstm": {**TINY_DECODER, "n_channels": 4},
    "gcn_lstm": TINY_DECODER,
    "gconv_lstm": TINY_DECODER,
    "gc_lstm": TINY_DECODER,
    "t_gcn": TINY_DECODER,
    "dcrnn": TINY_DECODER,
    "a3t_gcn": TINY_DECODER,
    "graph_transformer": {**TINY_DECODER, "n_heads": 2, "n_tokens": 2},
    "identity_mlp": {"hidden_size": 8, "node_embedding_size": 4, "n_layers": 1},
    "spacetime_patches": {**TINY_DECODER, "patch_size": 3, "patch_steps": 4},
    "graph_wavenet": {**TINY_DECODER, "n_channels": 4, "n_skip_channels": 8},
    "pgt": {**TINY_DECODER, "layer": "GConvGRU", "arguments": {"out_channels": 8}},
    "stgcn": {**TINY_DECODER, "n_channels": 8, "n_graph_channels": 4},
    "tcn": {**TINY_DECODER, "n_channels": 4},
    "tdnn": {**TINY_DECODER, "n_channels": 8},
    "temporal_attention": {**TINY_DECODER, "n_channels": 8, "n_heads": 2},
}

# name -> options under which nothing of the model belongs to a node: it runs on other graphs
INDUCTIVE: dict[str, dict[str, Any]] = {
    name: {"node_embedding_size": 0, "adaptive_rank": 0} for name in SMALL
} | {"identity_mlp": {"node_embedding_size": 0}}

# parameters whose first axis is the node, by the last part of their name
PER_NODE = {"identity", "give", "take"}

# models that look at nothing but the node itself
WITHOUT_GRAPH = {"identity_mlp"}

# what is made of other models, of such that are quick
BLENDS: dict[str, dict[str, Any]] = {
    "ensemble": {"members": ["ridge", "profile_decay"]},
    "auto": {"candidates": ["persistence", "ridge", "weekly_profile"]},
}

# models whose nodes are cells with rows and columns
NEEDS_GRID = {"cnn_3d", "cnn_lstm", "conv_lstm"}


def on_cells(graph: STGraph) -> STGraph:
    """Return the graph with its nodes as cells in rows of three; the last row may have holes."""
    row, column = np.divmod(np.arange(graph.n_nodes), 3)
    return graph.replace(nodes=graph.nodes.assign(kind="cell", row=row, column=column))


def as_needed(graph: STGraph, name: str) -> STGraph:
    """Return the graph as a model needs it: on cells for those of grids."""
    return on_cells(graph) if name in NEEDS_GRID else graph
