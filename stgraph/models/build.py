"""Build a registered model for a task, with its options checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from stgraph import registry
from stgraph.config import HeadConfig
from stgraph.errors import ConfigError, InputError, nearest_name
from stgraph.inputs import Inputs
from stgraph.layout import Layout
from stgraph.models.ensemble import Blend, Member
from stgraph.models.heads import build_head
from stgraph.models.predictor import Predictor
from stgraph.models.sizes import Sizes
from stgraph.report import Report


def build_predictor(
    name: str,
    options: Mapping[str, Any],
    inputs: Inputs,
    *,
    layout: Layout,
    head: HeadConfig | None = None,
) -> Predictor:
    """Return an untrained model with everything around it.

    Parameters
    ----------
    name
        Registered model.
    options
        Of the model's config.
    inputs
        Fitted inputs; they give the sizes and the anchor.
    layout
        Number of nodes N, and where they lie.
    head
        What the model's numbers mean; None takes three quantiles.

    Returns
    -------
    Predictor
        `Batch` -> quantiles (B, H, N, C, Q) in input units, or probabilities of classes.

    Raises
    ------
    UnknownNameError, ConfigError
        Nobody registered the name, or the options are not the model's.
    InputError
        The head does not fit the inputs.
    """
    head = head or HeadConfig()
    _check_head(head, inputs)
    model_class: type[nn.Module] = registry.load("models", name)
    is_point = bool(getattr(model_class, "is_point", False))
    sizes = Sizes(
        n_nodes=layout.n_nodes,
        window=inputs.window,
        horizon=inputs.horizon,
        n_past=inputs.n_past,
        n_future=inputs.n_future,
        n_outputs=len(inputs.targets) * build_head(head, is_point=is_point).n_channels,
        layout=layout,
    )
    return Predictor(model_class(sizes, read_options(name, options)), inputs, head)


def build_blend(
    members: Sequence[Member],
    inputs: Inputs,
    *,
    layout: Layout,
    head: HeadConfig | None = None,
) -> Blend:
    """Return an untrained blend of several models; parameters and errors as `build_predictor`."""
    predictors = [
        build_predictor(member.name, member.options, inputs, layout=layout, head=head)
        for member in members
    ]
    shape = (len(members), inputs.horizon, len(inputs.targets))
    return Blend(predictors, torch.full(shape, 1 / len(members)))


def count_weights(name: str, options: Mapping[str, Any], sizes: Sizes, *, head: HeadConfig) -> int:
    """Return how many numbers a model learns; errors as `build_predictor`, no random state moves.

    `sizes.n_outputs` is the number of targets.
    """
    model_class: type[nn.Module] = registry.load("models", name)
    is_point = bool(getattr(model_class, "is_point", False))
    n_outputs = sizes.n_outputs * build_head(head, is_point=is_point).n_channels
    with torch.random.fork_rng(devices=[]):
        model = model_class(replace(sizes, n_outputs=n_outputs), read_options(name, options))
    return sum(weights.numel() for weights in model.parameters())


def _check_head(head: HeadConfig, inputs: Inputs) -> None:
    """Refuse a head that does not fit the inputs."""
    weights = head.step_weights
    if not isinstance(weights, str) and len(weights) != inputs.horizon:
        raise InputError(
            f"`step_weights` has {len(weights)} numbers for {inputs.horizon} steps ahead; give one "
            'each, or "near" or "far"'
        )
    if head.kind == "classes" and len(inputs.targets) > 1:
        names = [inputs.features[position].name for position in inputs.targets]
        raise InputError(
            f"classes have limits in the unit of one target, there are {names}; make the others "
            "observed features"
        )


def read_options(name: str, options: Mapping[str, Any]) -> BaseModel:
    """Return the config of a registered model, or one ConfigError with every finding."""
    config_class: type[BaseModel] = get_type_hints(registry.load("models", name).__init__)["config"]
    try:
        return config_class.model_validate(dict(options))
    except ValidationError as error:
        report = Report()
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            if not problem["loc"]:  # what several options say together
                what, _, todo = problem["msg"].removeprefix("Value error, ").partition("; ")
                report.error(name, what, todo)
            elif problem["type"] == "extra_forbidden":
                hint = nearest_name(key, config_class.model_fields)
                report.error(f"`{key}`", f"is no option of {name}{hint}", "remove or rename it")
            else:
                todo = problem["msg"].removeprefix("Value error, ")
                report.error(f"`{key}`", f"is {problem['input']!r}", todo)
        report.raise_errors(ConfigError, title=f"options of model {name!r}")
        raise
