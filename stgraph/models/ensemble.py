"""Several models as one: a weighted mean of their forecasts, per horizon and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from stgraph import registry
from stgraph.errors import nearest_name
from stgraph.models.options import ModelOptions
from stgraph.models.predictor import Predictor
from stgraph.windows import Batch


class Member(ModelOptions):
    """One model of several."""

    name: str  # registered name
    options: Mapping[str, Any] = Field(default_factory=dict)  # of the model's config
    seed: int | None = Field(default=None, ge=0, lt=2**32)  # None: the job's, twins count on

    @field_validator("name")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        """Refuse names that nobody registered, and blends of blends."""
        known = [other for other in registry.names("models") if other not in BLENDS]
        if name not in known:
            why = "made of others" if name in BLENDS else f"unknown{nearest_name(name, known)}"
            raise ValueError(f"names of models: {name!r} is {why}; there are {known}")
        return name


BLENDS = ("ensemble", "auto")  # registered names of what is made of other models


class EnsembleConfig(ModelOptions):
    """Options of `Ensemble`."""

    members: tuple[str | dict[str, Any], ...] = Field(
        ("graph_transformer", "gcn_lstm", "spacetime_patches"), min_length=1, max_length=32
    )  # names, or tables with `name`, `options` and `seed`
    weights: Literal["validated", "equal"] = "validated"  # fitted on the validation part, or alike

    @field_validator("members")
    @classmethod
    def _are_members(cls, members: tuple[str | dict[str, Any], ...]) -> Any:
        """Refuse what is no member."""
        for member in members:
            as_member(member)
        return members


class AutoConfig(ModelOptions):
    """Options of `Auto`."""

    budget_minutes: float = Field(15.0, gt=0, le=100_000)  # for all that is tried, about
    candidates: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=32
    )  # what is tried, in this order; None: what suits

    @field_validator("candidates")
    @classmethod
    def _are_models(cls, candidates: tuple[str, ...] | None) -> Any:
        """Refuse names that nobody registered."""
        for name in candidates or ():
            Member(name=name)
        return candidates


class Ensemble:
    """Several models, fitted one after the other to the same inputs and averaged.

    Weights are not negative and sum to 1, per horizon and target. They are those with the least
    absolute error on the validation part, as far as that part can tell; see `stgraph.blending`.
    Quantiles are averaged level by level (Vincent, 1912) and then calibrated.
    """

    def __init__(self, config: EnsembleConfig) -> None:
        self.config = config


class Auto:
    """Whatever serves the data best: baselines and families tried within a budget, and blended.

    See `stgraph.selection`.
    """

    def __init__(self, config: AutoConfig) -> None:
        self.config = config


class Blend(nn.Module):
    """The weighted mean of what several predictors say; stands where one of them would.

    Shapes
    ------
    input
        `Batch`.
    output
        (B, H, N, C, Q) quantiles in input units, or probabilities of classes.
    """

    def __init__(self, members: Sequence[Predictor], weights: Tensor) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.is_point = all(member.is_point for member in members)
        self.weights: Tensor  # (M, H, C), sums to 1 over the members
        self.register_buffer("weights", weights)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean forecast of every target."""
        total = torch.zeros(())
        for weight, member in zip(self.weights, self.members, strict=True):
            total = total + weight[:, None, :, None] * member(batch)
        return total


def as_member(member: str | Mapping[str, Any]) -> Member:
    """Return what a name or a table of a config stands for."""
    return Member(name=member) if isinstance(member, str) else Member.model_validate(dict(member))
