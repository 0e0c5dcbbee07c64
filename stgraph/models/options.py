"""Options that model families share: one base per part, so that the same thing has one name."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Fusing = Literal["concat", "attention", "gated"]
Convolution = Literal["diffusion", "gcn", "chebyshev"]


class ModelOptions(BaseModel):
    """What every model config is: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_heads(name: str, size: int, n_heads: int) -> None:
    """Refuse heads of attention among which the numbers of an option cannot be shared out."""
    if size % n_heads:
        raise ValueError(
            f"`{name}` {size} is no multiple of `n_heads` {n_heads}; choose numbers that divide"
        )


class DecoderOptions(ModelOptions):
    """Options of `Decoder`, which every family ends with."""

    hidden_size: int = Field(64, ge=1, le=4096)  # state per node
    n_graph_layers: int = Field(2, ge=0, le=16)  # rounds of mixing with neighbours; 0: none
    convolution: Convolution = "diffusion"  # both ways; "gcn" and "chebyshev" as published
    n_hops: int = Field(2, ge=1, le=8)  # steps along the edges per round, each way
    adaptive_rank: int = Field(10, ge=0, le=256)  # learned adjacency; 0: the given graph only
    node_embedding_size: int = Field(32, ge=0, le=1024)  # node identity; 0: none (inductive)
    fusion: Fusing = "concat"  # of the past, the node's identity and the known future
    use_future: bool = True  # calendar, profile and other known-future inputs
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
