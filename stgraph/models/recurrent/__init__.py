"""Recurrent layers with graph convolution inside."""

from stgraph.models.recurrent.layers import DCRNN, GCLSTM, TGCN, GConvLSTM

__all__ = ["DCRNN", "GCLSTM", "TGCN", "GConvLSTM"]
