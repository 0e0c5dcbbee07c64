"""What a training step needs in memory, measured on one window, and into how many parts it goes.

And what is said where there is not enough.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from stgraph.errors import TrainingError
from stgraph.models.predictor import Predictor
from stgraph.windows import Windows

# torch has a class for a lack on GPUs only, and not for all of them
_LACKS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
_BACKWARD = 2.0  # measured: gradients and passing arrays take about as much as what is kept


def window_bytes(predictor: Predictor, windows: Windows) -> int:
    """Return about what one window of a training step takes in memory.

    Measured by the loss of one window: what is kept until its gradient is known, and the window
    itself.

    Parameters
    ----------
    predictor
        Left as it was, random numbers included.
    windows
        At least one.
    """
    batch = windows[0]
    own = {part.untyped_storage().data_ptr() for part in predictor.parameters()}
    kept = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in batch}

    def note(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = predictor.training
    predictor.eval()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        predictor.loss(batch)
    predictor.train(was_training)
    return int(_BACKWARD * sum(size for place, size in kept.items() if place not in own))


def count_parts(
    predictor: Predictor, windows: Windows, *, batch_size: int, memory_gb: float
) -> int:
    """Return into how many parts to cut batches, so that a step stays within some memory.

    Parameters
    ----------
    predictor, windows
        As in `window_bytes`.
    batch_size
        Windows of a step.
    memory_gb
        What a step may take. One window at a time is the least.
    """
    at_once = int(memory_gb * 1e9 / window_bytes(predictor, windows))
    return -(-batch_size // max(1, min(batch_size, at_once)))


@contextlib.contextmanager
def saying_what_to_do_without_memory() -> Iterator[None]:
    """Turn a lack of memory, of the machine or of its GPU, into an error that says what helps.

    Raises
    ------
    TrainingError
        In its place; every other error goes through.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            words in str(error) for words in _LACKS
        ):
            raise
        raise TrainingError(
            f"fitting needs more memory than there is: {error}; lower `train.memory_gb`, "
            "`train.batch_size` or the sizes of the model"
        ) from error
