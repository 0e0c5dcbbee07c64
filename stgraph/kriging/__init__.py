"""Values where there is no sensor: interpolation along roads, and what hidden sensors teach."""

from __future__ import annotations

from stgraph.kriging.estimator import Estimate, Estimator, fit_estimator
from stgraph.kriging.holdout import Holdout, evaluate_holdout, fit_factors, forecast_windows
from stgraph.kriging.interpolation import (
    InverseDistance,
    Kernel,
    fit_inverse_distance,
    fit_kernel,
    interpolate,
)
from stgraph.kriging.surroundings import (
    SUPPORT,
    Surroundings,
    surround_segments,
    surround_stations,
)

__all__ = [
    "SUPPORT",
    "Estimate",
    "Estimator",
    "Holdout",
    "InverseDistance",
    "Kernel",
    "Surroundings",
    "evaluate_holdout",
    "fit_estimator",
    "fit_factors",
    "fit_inverse_distance",
    "fit_kernel",
    "forecast_windows",
    "interpolate",
    "surround_segments",
    "surround_stations",
]
