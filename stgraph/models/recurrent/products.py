"""Matrix products of the recurrences: oneDNN's in single precision on CPUs, else torch's own."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


def times(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right`` of two matrices.

    Torch multiplies float32 by MKL, which does not use AVX-512 on AMD; oneDNN does (measured with
    103 inputs and 128 outputs on Zen 5: 2.4 times as fast).
    """
    fast = _onednn() if left.device.type == "cpu" and left.dtype == torch.float32 else None
    if fast is None:
        return left @ right
    out: Tensor = fast(left, right.T, None, "none", [], "")
    return out


@functools.cache
def _onednn() -> Callable[..., Any] | None:
    """Return oneDNN's linear map if this build of torch has it and it answers rightly."""
    try:
        product: Callable[..., Any] = torch.ops.mkldnn._linear_pointwise
        left, right = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(3, 4)
        if torch.equal(product(left, right.T, None, "none", [], ""), left @ right):
            return product
        _log.info("oneDNN's product is wrong in this build of torch; its own is used")
    except (AttributeError, RuntimeError, TypeError, NotImplementedError) as error:
        _log.info("this build of torch has no product by oneDNN (%s); its own is used", error)
    return None
