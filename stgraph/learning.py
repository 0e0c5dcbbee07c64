"""What Lightning does: epochs, early stopping, training state on disk, going on after a kill."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks, loggers
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Sampler

from stgraph._optional import require
from stgraph.allocator import keep_freed_memory
from stgraph.config import TrainConfig
from stgraph.errors import CheckpointError, OutputError, STGraphError, TrainingError
from stgraph.footprint import count_parts
from stgraph.models.predictor import Predictor
from stgraph.tensor_files import read_training_state, write_training_state
from stgraph.windows import Batch, Windows

_WARM_UP = 0.05  # share of the steps over which the learning rate rises
_FLOOR = 0.01  # share of the peak learning rate at the end
_JOB_KEY = "stgraph_job"  # in the training state


def learn(
    predictor: Predictor,
    learning: Windows,
    tuning: Windows,
    train: TrainConfig,
    state: Path | None,
    job: dict[str, str],
    *,
    resume: bool,
) -> None:
    """Train with early stopping and leave the best weights in the predictor.

    Parameters
    ----------
    predictor
        Untrained; changed in place.
    learning, tuning
        Windows to learn from, and to stop early by; without the latter the last weights are kept.
    train
        How to train.
    state
        Folder for training state and logs; None keeps none.
    job
        Short texts that must be the same for a training to go on.
    resume
        Go on from the last epoch found in `state`.

    Raises
    ------
    CheckpointError
        `resume` finds the state of another job.
    TrainingError
        The loss is not finite.
    OutputError
        The training state or logs cannot be written.
    """
    with contextlib.ExitStack() as stack:
        folder = state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        last = folder / "last.safetensors"
        stack.enter_context(_writing(folder))
        _check_resume(folder, job, resume=resume)
        stack.enter_context(_quiet_lightning())
        task = _Task(predictor, train, learning, job)
        # the last state is kept last, so that it knows about the best one
        keepers = [_keeper(folder, "last", monitor=None)]
        if len(tuning):
            keepers.insert(0, _keeper(folder, "best", monitor="val_error"))
        n_parts = count_parts(
            predictor, learning, batch_size=train.batch_size, memory_gb=train.memory_gb
        )
        trainer = _trainer(train, folder, keepers, n_parts)
        sampler = _EpochSampler(len(learning), train.seed)
        going_on = resume and last.exists()
        if not (going_on and _is_over(last, train)):
            with _real_interrupts(trainer):
                trainer.fit(
                    task,
                    learning.loader(batch_size=-(-train.batch_size // n_parts), sampler=sampler),
                    tuning.loader(batch_size=tuning.at_once(most=train.batch_size)),
                    ckpt_path=str(last) if going_on else None,
                )
        best = folder / f"{keepers[0].filename}.safetensors"  # the last one without validation
        if best.exists():
            task.load_state_dict(read_training_state(best)["state_dict"])
    predictor.cpu()


class _Task(lightning.LightningModule):
    """What Lightning trains: a predictor, its loss, and a warm-up and cosine schedule."""

    def __init__(
        self, predictor: Predictor, train: TrainConfig, windows: Windows, job: dict[str, str]
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self._train_config = train
        self._job = job
        edges = windows.edges
        self.edge_index: Tensor
        self.edge_weight: Tensor
        # one graph for all batches: it stays on the device, and its operator is built once
        self.register_buffer("edge_index", edges[0], persistent=False)
        self.register_buffer("edge_weight", edges[1], persistent=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note whose state it is, so that no other job goes on from it."""
        checkpoint[_JOB_KEY] = self._job

    def on_train_epoch_start(self) -> None:
        """Seed each epoch on its own, so that a resumed run repeats what an unbroken one does."""
        torch.manual_seed(self._train_config.seed + self.current_epoch)

    def training_step(self, batch: Batch) -> Tensor:
        """Return the loss of one batch."""
        loss = self.predictor.loss(self._with_graph(batch))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}; lower "
                "`train.learning_rate` or check the readings for extreme values"
            )
        self.log("train_loss", loss, on_epoch=True, on_step=False, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch) -> None:
        """Log the masked mean error that the head judges by, an absolute one by default."""
        error = self.predictor.validation_error(self._with_graph(batch))
        n_seen = int(batch.y_mask.sum())
        if n_seen:
            self.log("val_error", error, prog_bar=True, batch_size=n_seen)

    def configure_optimizers(self) -> Any:
        """Return AdamW with warm-up and cosine decay over all steps."""
        train = self._train_config
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay
        )
        n_steps = max(1, int(self.trainer.estimated_stepping_batches))
        warm_up = max(1, int(_WARM_UP * n_steps))

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            done = (step - warm_up) / max(1, n_steps - warm_up)
            return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _with_graph(self, batch: Batch) -> Batch:
        """Return the batch with the one graph that stays on the device."""
        return batch._replace(edge_index=self.edge_index, edge_weight=self.edge_weight)


class _TensorFiles(CheckpointIO):
    """Lightning's training state without pickle."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: Any,
        storage_options: Any = None,  # noqa: ARG002
    ) -> None:
        """Write a state."""
        write_training_state(checkpoint, Path(path))

    def load_checkpoint(
        self,
        path: Any,
        map_location: Any = None,  # noqa: ARG002
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Read a state."""
        return read_training_state(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a state that is no longer kept."""
        Path(path).unlink(missing_ok=True)


class _EpochSampler(Sampler[int]):
    """A random order that depends on seed and epoch only, so that a resumed run repeats it."""

    def __init__(self, n_windows: int, seed: int) -> None:
        self._n_windows = n_windows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_windows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(torch.randperm(self._n_windows, generator=generator).tolist())


def _keeper(folder: Path, name: str, *, monitor: str | None) -> callbacks.ModelCheckpoint:
    """Return what keeps one state of the training: the best by a metric, or the last."""
    keeper = callbacks.ModelCheckpoint(
        dirpath=folder,
        filename=name,
        monitor=monitor,
        save_top_k=1,
        enable_version_counter=False,
    )
    keeper.FILE_EXTENSION = ".safetensors"
    return keeper


def _trainer(
    train: TrainConfig, folder: Path, keepers: list[callbacks.ModelCheckpoint], n_parts: int
) -> lightning.Trainer:
    """Return the trainer that a config asks for, with steps in some parts."""
    keep_freed_memory()
    monitored = [keeper.monitor for keeper in keepers if keeper.monitor is not None]
    stop = [callbacks.EarlyStopping(name, patience=train.patience) for name in monitored]
    on_stderr = {"stderr": True}  # stdout is for results
    averages = [_averages(train.ema_decay)] if train.ema_decay else []
    bar = (
        [callbacks.RichProgressBar(leave=False, console_kwargs=on_stderr)] if train.progress else []
    )
    logs: list[loggers.Logger] = [loggers.CSVLogger(folder, name=None, version="logs")]
    if train.tensorboard:
        require("tensorboard", extra="tensorboard")
        logs.append(loggers.TensorBoardLogger(folder, name=None, version="logs"))
    on_gpu = train.device == "cuda" or (train.device == "auto" and torch.cuda.is_available())
    bf16 = train.precision == "bf16" or (train.precision == "auto" and on_gpu)
    return lightning.Trainer(
        accelerator="cuda" if on_gpu else "cpu",
        devices=1,  # with several, Lightning runs the caller's program once more for each
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=train.max_epochs,
        max_time=None if train.max_minutes is None else timedelta(minutes=train.max_minutes),
        gradient_clip_val=train.gradient_clip,
        accumulate_grad_batches=n_parts,
        callbacks=[*keepers, *stop, *averages, *bar],
        plugins=[_TensorFiles()],
        logger=logs,
        enable_progress_bar=train.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        default_root_dir=folder,
    )


def _averages(decay: float) -> callbacks.WeightAveraging:
    """Return what validates and keeps moving averages of the weights in place of the last ones.

    The first steps are averaged over fewer of them, or a short training would end near its start.
    """

    def average(averaged: Tensor, current: Tensor, n_averaged: Tensor) -> Tensor:
        """Return the average with one more step."""
        keep = ((1 + n_averaged) / (10 + n_averaged)).clamp_max(decay)
        return averaged.lerp(current, (1 - keep).to(averaged))

    return callbacks.WeightAveraging(use_buffers=False, avg_fn=average)


def _check_resume(folder: Path, job: dict[str, str], *, resume: bool) -> None:
    """Refuse to go on with the state of another job; start afresh unless asked to go on."""
    last, best = folder / "last.safetensors", folder / "best.safetensors"
    if not resume:
        for old in (last, best):
            old.unlink(missing_ok=True)
        return
    if not last.exists():
        return
    theirs = read_training_state(last).get(_JOB_KEY, {})
    odd = [name for name, text in job.items() if theirs.get(name) != text]
    if odd:
        raise CheckpointError(
            f"{last} holds the state of another job, which differs in {', '.join(odd)}; "
            "choose another folder or start without resume"
        )


def _is_over(last: Path, train: TrainConfig) -> bool:
    """Tell whether a training is over: early stopping has ended it, or all epochs are done."""
    state = read_training_state(last)
    waited = [part["wait_count"] for name, part in state["callbacks"].items() if "EarlyS" in name]
    return max(waited, default=0) >= train.patience or state["epoch"] + 1 >= train.max_epochs


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say where the training state and logs could not be written."""
    try:
        yield
    except STGraphError:
        raise
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write {folder} ({error}); make room or choose another folder"
        ) from error


@contextlib.contextmanager
def _real_interrupts(trainer: lightning.Trainer) -> Iterator[None]:
    """Turn what Lightning makes of Ctrl-C, an exit that ignores the next one, back into itself."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on loader workers and batch sizes, which does not apply here."""
    talkers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [talker.level for talker in talkers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", module="torch.utils._pytree")
        for talker in talkers:
            talker.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for talker, level in zip(talkers, levels, strict=True):
                talker.setLevel(level)
