"""Several models for one job: those that are named, or those that a budget of time allows to try.

An automatic choice tries the baselines first, which take seconds, then families in the order of
what they usually gain per second, then further seeds of the best. What a family will cost is known
from one batch before it starts. All are judged on the validation part, where learned models have
also stopped early; that part knows them through one number per epoch, and what is left of the
favour is dealt with by `stgraph.blending`: the fitted weights count only as far as they pay on
blocks of windows that they were not fitted to, and the rest stays with the best simple forecast.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stgraph import registry
from stgraph.blending import Judge, fit_weights
from stgraph.checkpoint import load_forecaster, save_forecaster
from stgraph.config import HeadConfig, TrainConfig
from stgraph.errors import CheckpointError, InputError, MissingExtraError, TrainingError
from stgraph.footprint import count_parts, saying_what_to_do_without_memory
from stgraph.forecasting import Forecaster
from stgraph.graph import FloatArray
from stgraph.models.build import build_predictor
from stgraph.models.ensemble import AutoConfig, Blend, EnsembleConfig, Member, as_member
from stgraph.models.predictor import Predictor

if TYPE_CHECKING:  # training stands above: it hands over how to fit one model
    from stgraph.training import Prepared

logger = logging.getLogger(__name__)

FitOne = Callable[[Member, TrainConfig, Path | None], Forecaster]

_BASELINES = ("persistence", "seasonal_naive", "weekly_profile", "profile_decay", "ridge")
_MAX_NODES = {"ridge_node": 5000, "var": 300}  # above, they cost more than they are worth
# learned families by what they usually gain per second, on graphs and on grids
_FAMILIES = ("graph_transformer", "gcn_lstm", "spacetime_patches", "identity_mlp", "t_gcn")
_ON_GRIDS = ("gcn_lstm", "cnn_3d", "identity_mlp", "spacetime_patches")
_ON_LARGE = ("identity_mlp", "gcn_lstm", "spacetime_patches")
_LARGE = 2000  # nodes
_MORE_SEEDS = 2  # of the best family, where time is left
_LEAST_EPOCHS = 5  # fewer teach a network too little
_MARGIN = 0.9  # of the time that is left is planned with
_MUCH_WORSE = 1.3  # times the least error: no help in a mean
# settings that a training may go on with, but that a finished member must have been fitted with
_LENGTH = ("max_epochs", "max_minutes", "patience", "precision")


@dataclass(frozen=True)
class Blended:
    """Several models as one."""

    members: tuple[Member, ...]
    predictor: Blend
    tried: tuple[dict[str, Any], ...]  # what was tried: seconds, error, weight, and why not


@dataclass
class _Trial:
    """One model that was tried, or was not."""

    member: Member
    why_not: str = ""
    seconds: float = 0.0
    forecaster: Forecaster | None = None
    errors: FloatArray | None = field(default=None, repr=False)
    score: float = np.inf

    @property
    def is_simple(self) -> bool:
        """Whether it is a baseline."""
        return self.forecaster is not None and self.forecaster.predictor.is_point


class Bench:
    """Where models are fitted and judged, one after the other.

    Parameters
    ----------
    prepared
        The inputs that all share.
    fit_one
        Fits a member with a config of training, its state in a folder.
    head, train
        What the forecasts are, and how networks learn.
    folder
        Where members are kept, so that a killed run goes on with the next. None keeps none.
    job
        What must be the same for that; where only how long networks learn differs, they are
        fitted anew.
    resume
        Go on.
    """

    def __init__(
        self,
        *,
        prepared: Prepared,
        fit_one: FitOne,
        head: HeadConfig,
        train: TrainConfig,
        folder: Path | None,
        job: str,
        resume: bool,
    ) -> None:
        self.prepared = prepared
        self.fit_one = fit_one
        self.head = head
        self.train = train
        self.folder = folder
        self.job = job
        self.resume = resume
        is_classes = head.kind == "classes"
        middle = 0 if is_classes else head.levels.index(0.5)
        if folder is not None and not resume:  # or going on with this job would find another's
            shutil.rmtree(folder, ignore_errors=True)
        self.judge = Judge(prepared.tuning, middle=middle, edges=head.edges if is_classes else ())

    def try_out(self, member: Member, train: TrainConfig | None = None) -> _Trial:
        """Fit one model, or take it from the run that was killed, and judge it."""
        train = (train or self.train).model_copy(update={"seed": member.seed})
        trial = _Trial(member)
        began = time.perf_counter()
        try:
            forecaster = self._fit(member, train)
            if len(self.judge.windows):
                with saying_what_to_do_without_memory():
                    trial.errors = self.judge.errors(forecaster.predictor)
                    trial.score = self.judge.score(trial.errors)
        except CheckpointError:
            raise
        except (InputError, MissingExtraError, TrainingError) as error:
            trial.why_not = str(error)
        if trial.why_not:
            _let_go()
            trial.seconds = time.perf_counter() - began
            return trial
        # what was fitted before a kill has taken its time, too
        trial.seconds = max(time.perf_counter() - began, float(forecaster.notes["fit_seconds"]))
        if np.isnan(trial.score):
            trial.why_not, trial.score = "it forecasts what are no numbers", np.inf
            return trial
        trial.forecaster = forecaster
        logger.info("%s: %.1f s, validation error %.4g", member.name, trial.seconds, trial.score)
        return trial

    def _fit(self, member: Member, train: TrainConfig) -> Forecaster:
        """Return a fitted member; what was finished in an earlier run is not fitted again."""
        if self.folder is None:
            return self.fit_one(member, train, None)
        folder = self.folder / f"{member.name}-{member.seed}{_options_mark(member)}"
        job = f"{self.job} {member!r}"
        # as asked for: an automatic choice itself shortens them to the time that is left
        length = repr([(name, getattr(self.train, name)) for name in _LENGTH])
        done = folder / "checkpoint"
        if self.resume and done.exists():
            forecaster = load_forecaster(done)
            if forecaster.notes.get("job") != job:
                raise CheckpointError(
                    f"{done} was fitted in another job; choose another folder or start without "
                    "resume"
                )
            if forecaster.predictor.is_point or forecaster.notes.get("length") == length:
                logger.info("%s, seed %s: as fitted before", member.name, member.seed)
                return forecaster
            logger.info("%s, seed %s: fitted anew, [train] differs", member.name, member.seed)
            shutil.rmtree(folder, ignore_errors=True)
        forecaster = self.fit_one(member, train, folder).with_notes(job=job, length=length)
        save_forecaster(forecaster, done)
        return forecaster


def fit_ensemble(config: EnsembleConfig, bench: Bench) -> Blended:
    """Fit the members that a config names, and their weights.

    Parameters
    ----------
    config
        Which members, and whether their weights are fitted.
    bench
        Where they are fitted and judged.

    Returns
    -------
    Blended
        Members whose weight is next to nothing at every horizon are left out.

    Raises
    ------
    InputError, MissingExtraError
        A member cannot be fitted to this data, or its training failed.
    """
    members = _with_seeds((as_member(member) for member in config.members), bench.train.seed)
    for member in members:  # all of them before any takes time
        _build(bench.prepared, member, bench.head)
    trials = []
    for member in members:
        trial = bench.try_out(member)
        if trial.forecaster is None:
            raise InputError(f"the ensemble's member {member.name!r}: {trial.why_not}")
        trials.append(trial)
    if config.weights == "equal" or not len(bench.judge.windows):
        return _blend(trials, _equal(len(trials), bench))
    errors = [trial.errors for trial in trials if trial.errors is not None]
    return _blend(trials, fit_weights(errors, bench.judge)[0])


def choose(config: AutoConfig, bench: Bench) -> Blended:
    """Try baselines and families within a budget of time, and blend what helps.

    Parameters
    ----------
    config
        The budget, and what is tried.
    bench
        Where they are fitted and judged.

    Returns
    -------
    Blended
        The models that got weight, and what was tried.

    Raises
    ------
    InputError
        There is no validation part to choose by, or nothing could be fitted.
    """
    if not len(bench.judge.windows):
        raise InputError(
            "an automatic choice needs validation windows with observations; give the second of "
            "[windows] `fractions` a share, or name a model"
        )
    trials: list[_Trial] = []
    left = 60 * config.budget_minutes
    for member in _candidates(config, bench, trials):
        trial = _within(left, member, bench)
        trials.append(trial)
        left -= trial.seconds
    fitted = [trial for trial in trials if trial.forecaster is not None]
    if not fitted:
        reasons = "; ".join(f"{trial.member.name}: {trial.why_not}" for trial in trials)
        raise InputError(f"none of the models could be fitted: {reasons}")
    return _blend_best(trials, fitted, bench)


def _with_seeds(members: Iterator[Member], seed: int) -> list[Member]:
    """Return members with seeds; twins get one after the other."""
    out: list[Member] = []
    for member in members:
        if member.seed is None:
            taken = {
                other.seed
                for other in out
                if other.name == member.name and other.options == member.options
            }
            free = next(s % 2**32 for s in itertools.count(seed) if s % 2**32 not in taken)
            member = member.model_copy(update={"seed": free})
        out.append(member)
    return out


def _candidates(config: AutoConfig, bench: Bench, trials: Sequence[_Trial]) -> Iterator[Member]:
    """Yield what to try, in order; at the end further seeds of the best network so far."""
    n_nodes, seed = bench.prepared.graph.n_nodes, bench.train.seed
    if config.candidates is not None:
        yield from _with_seeds((Member(name=name) for name in config.candidates), seed)
        return
    simple = [*_BASELINES, *(name for name, most in _MAX_NODES.items() if n_nodes <= most)]
    if not bench.prepared.inputs.use_seasons:
        simple.remove("seasonal_naive")
    if importlib.util.find_spec("lightgbm") is not None:
        simple.append("lightgbm")
    families: tuple[str, ...] = _ON_LARGE if n_nodes > _LARGE else _FAMILIES
    if bench.prepared.layout.cells is not None and n_nodes <= _LARGE:
        families = _ON_GRIDS
    known = registry.names("models")
    for name in (*simple, *(name for name in families if name in known)):
        yield Member(name=name, seed=seed)
    for more in range(1, _MORE_SEEDS + 1):
        networks = [trial for trial in trials if trial.forecaster and not trial.is_simple]
        if not networks:
            return
        best = min(networks, key=lambda trial: trial.score).member
        twins = sum(trial.member.name == best.name for trial in trials)
        yield best.model_copy(update={"seed": (seed + max(more, twins)) % 2**32})


def _within(left: float, member: Member, bench: Bench) -> _Trial:
    """Fit a member if there is time for it, in fewer epochs if need be."""
    is_point = bool(getattr(registry.load("models", member.name), "is_point", False))
    train, prepared = bench.train, bench.prepared
    if left <= 0:
        return _Trial(member, "no time was left")
    if is_point:
        return bench.try_out(member)
    began, why_not = time.perf_counter(), ""
    try:
        with saying_what_to_do_without_memory():
            per_epoch = _seconds_per_epoch(prepared, member, bench.head, train)
    except (InputError, TrainingError) as error:
        why_not = str(error)
    if why_not:
        _let_go()
        return _Trial(member, why_not, seconds=time.perf_counter() - began)
    probed = time.perf_counter() - began
    n_epochs = min(train.max_epochs, int(_MARGIN * (left - probed) / per_epoch))
    needed = min(_LEAST_EPOCHS, train.max_epochs)
    if n_epochs < needed:
        why = (
            f"needs {needed} epochs of about {per_epoch:.2g} s each, and "
            f"{max(0, left):.2g} s were left"
        )
        return _Trial(member, why, seconds=probed)
    minutes = min(left / 60, train.max_minutes or np.inf)
    update = {"max_epochs": n_epochs, "max_minutes": minutes}
    trial = bench.try_out(member, train.model_copy(update=update))
    trial.seconds += probed
    return trial


def _seconds_per_epoch(
    prepared: Prepared, member: Member, head: HeadConfig, train: TrainConfig
) -> float:
    """Return about how long an epoch takes, from one batch after another one to warm up."""
    on_gpu = train.device == "cuda" or (train.device == "auto" and torch.cuda.is_available())
    learning, tuning = prepared.learning, prepared.tuning
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        predictor = _build(prepared, member, head)
        # in as many parts as training does it
        n_parts = count_parts(
            predictor, learning, batch_size=train.batch_size, memory_gb=train.memory_gb
        )
        size = min(-(-train.batch_size // n_parts), len(learning))
        predictor.to("cuda" if on_gpu else "cpu")
        for _ in range(2):
            began = time.perf_counter()
            batch = learning.__getitems__(range(size))
            batch = type(batch)(*(part.to(predictor.decay.device) for part in batch))
            predictor.loss(batch).backward()  # type: ignore[no-untyped-call]
            if on_gpu:
                torch.cuda.synchronize()  # it has only been asked to
            seconds = time.perf_counter() - began
    # looking at a validation window takes about a third of learning from a window
    return seconds / size * (len(learning) + len(tuning) / 3)


def _let_go() -> None:
    """Give back what a failed fit still holds: its error and its frames point at each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _build(prepared: Prepared, member: Member, head: HeadConfig) -> Predictor:
    """Return an untrained member; no random state moves."""
    with torch.random.fork_rng(devices=[]):
        return build_predictor(
            member.name, member.options, prepared.inputs, layout=prepared.layout, head=head
        )


def _blend_best(trials: Sequence[_Trial], fitted: list[_Trial], bench: Bench) -> Blended:
    """Return a blend of those that are not much worse than the best."""
    least = min(trial.score for trial in fitted)
    good = [trial for trial in fitted if trial.score <= _MUCH_WORSE * least]
    for trial in fitted:
        if trial not in good:
            trial.why_not = "much worse than the best"
    simple = [trial for trial in good if trial.is_simple] or good
    safe = min(simple, key=lambda trial: trial.score)
    errors = [trial.errors for trial in good if trial.errors is not None]
    weights, _ = fit_weights(errors, bench.judge, base=good.index(safe))
    return _blend(good, weights, trials=trials)


def _blend(
    fitted: Sequence[_Trial], weights: FloatArray, *, trials: Sequence[_Trial] | None = None
) -> Blended:
    """Return the blend of those that have weight, and a row about each that was tried."""
    mean = weights.mean(axis=(1, 2))
    for trial, weight in zip(fitted, mean, strict=True):
        if not weight:
            trial.why_not = "adds nothing to the others"
    shares = {id(trial): float(weight) for trial, weight in zip(fitted, mean, strict=True)}
    kept = [i for i, weight in enumerate(mean) if weight > 0]
    fits = [fitted[i].forecaster for i in kept]
    return Blended(
        members=tuple(fitted[i].member for i in kept),
        predictor=Blend(
            [fit.predictor for fit in fits if fit and isinstance(fit.predictor, Predictor)],
            torch.from_numpy(weights[kept].copy()),
        ),
        tried=tuple(_row(trial, shares.get(id(trial), 0.0)) for trial in trials or fitted),
    )


def _row(trial: _Trial, weight: float) -> dict[str, Any]:
    """Return what the report says about a trial."""
    return {
        "model": trial.member.name,
        "options": dict(trial.member.options),
        "seed": trial.member.seed,
        "seconds": round(trial.seconds, 1),
        "validation_error": float(f"{trial.score:.4g}") if np.isfinite(trial.score) else None,
        "weight": round(weight, 3),
        "why_not": trial.why_not,
    }


def _equal(n_members: int, bench: Bench) -> FloatArray:
    """Return equal weights (M, H, C)."""
    inputs = bench.prepared.inputs
    shape = (n_members, inputs.horizon, len(inputs.targets))
    return np.full(shape, 1 / n_members, dtype=np.float32)


def _options_mark(member: Member) -> str:
    """Return what tells members apart that differ in their options alone."""
    if not member.options:
        return ""
    text = repr(sorted((name, repr(value)) for name, value in member.options.items()))
    return f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
