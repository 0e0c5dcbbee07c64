"""Recurrent layers with graph convolution inside."""

from stgraph.models.recurrent.layers import A3TGCN, DCRNN, GCLSTM, TGCN, GConvLSTM
from stgraph.models.recurrent.plain import NodeLSTM

__all__ = ["A3TGCN", "DCRNN", "GCLSTM", "TGCN", "GConvLSTM", "NodeLSTM"]
