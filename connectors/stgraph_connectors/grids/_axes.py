"""Which dimension of a gridded file is x, y or time, by the CF conventions; and its CRS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyproj

from stgraph.errors import nearest_name
from stgraph.report import Report

Kind = Literal["x", "y", "t", "z"]

_STANDARD: dict[str, Kind] = {
    "longitude": "x", "projection_x_coordinate": "x", "grid_longitude": "x",
    "latitude": "y", "projection_y_coordinate": "y", "grid_latitude": "y",
    "time": "t",
}  # fmt: skip
_NAMES: dict[str, Kind] = {
    **dict.fromkeys(("x", "lon", "longitude", "long", "easting", "xc", "rlon", "projx"), "x"),
    **dict.fromkeys(("y", "lat", "latitude", "northing", "yc", "rlat", "projy"), "y"),
    **dict.fromkeys(("time", "t", "date", "datetime", "valid_time"), "t"),
}
_AXES: dict[str, Kind] = {"X": "x", "Y": "y", "T": "t", "Z": "z"}
_EAST = re.compile(r"degrees?_?(east|E)$")
_NORTH = re.compile(r"degrees?_?(north|N)$")
_SINCE = re.compile(r"^\s*\w+\s+since\s", re.IGNORECASE)
_SPHERE_M = (6_350_000.0, 6_385_000.0)  # radii of the spheres that weather models stand for WGS 84


@dataclass(frozen=True)
class Dimensions:
    """Names of the dimensions of a variable; `time` is None where nothing changes."""

    x: str
    y: str
    time: str | None
    others: tuple[str, ...]


def attribute(variable: Any, name: str) -> Any:
    """Return what a variable says about itself, also where xarray has put it aside."""
    return variable.attrs.get(name, variable.encoding.get(name))


def kind_of(name: str, variable: Any | None) -> Kind | None:
    """Return what a coordinate is: by axis, standard name, units, and last by its own name."""
    if variable is not None:
        axis = str(attribute(variable, "axis") or "").upper()
        standard = str(attribute(variable, "standard_name") or "")
        units = str(attribute(variable, "units") or "")
        if axis in _AXES:
            return _AXES[axis]
        if standard in _STANDARD:
            return _STANDARD[standard]
        if _EAST.match(units) or _NORTH.match(units):
            return "x" if _EAST.match(units) else "y"
        if _SINCE.match(units) or variable.dtype.kind == "M":
            return "t"
    return _NAMES.get(name.lower())


def coordinate_of(dataset: Any, dimension: str) -> Any | None:
    """Return the coordinate along a dimension: the variable of its name, or the one that fits."""
    variables = dataset.variables
    if dimension in variables and variables[dimension].dims == (dimension,):
        return variables[dimension]
    for name, variable in variables.items():
        if variable.dims == (dimension,) and kind_of(str(name), variable) is not None:
            return variable
    return None


def find_dimensions(
    dataset: Any, variable: str, given: Mapping[Kind, str | None], *, name: str, report: Report
) -> Dimensions | None:
    """Return the dimensions of a variable, or None when they cannot be told apart.

    Parameters
    ----------
    dataset
        An xarray dataset.
    variable
        Name of one of its variables.
    given
        Names that the caller gave for x, y and t.
    name
        Of the source, for messages.
    report
        Takes the findings.
    """
    where = f"{name}, `{variable}`"
    dims = [str(dim) for dim in dataset.variables[variable].dims]
    found: dict[Kind, list[str]] = {"x": [], "y": [], "t": [], "z": []}
    for dim in dims:
        kind = kind_of(dim, coordinate_of(dataset, dim))
        if kind is not None:
            found[kind].append(dim)
    for kind, wanted in given.items():
        if wanted is not None and wanted in dims:
            found = {key: [d for d in names if d != wanted] for key, names in found.items()}
            found[kind] = [wanted]
        elif wanted is not None and (kind != "t" or found["t"]):
            option = "time_dim" if kind == "t" else f"{kind}_dim"
            what = f"no dimension {wanted!r}{nearest_name(wanted, dims)}; there are {dims}"
            report.error(where, what, f"correct {option}=")
            return None
    for kind, names in found.items():
        if len(names) > 1 and kind != "z":
            axis, option = ("time", "time_dim") if kind == "t" else (kind, f"{kind}_dim")
            todo = f"say which with {option}=, and one value of the other with select="
            report.error(where, f"has {len(names)} dimensions of {axis}: {names}", todo)
            return None
    if not found["x"] or not found["y"]:
        _note_no_axes(dataset, variable, dims, where, report)
        return None
    x, y = found["x"][0], found["y"][0]
    time = found["t"][0] if found["t"] else None
    return Dimensions(x, y, time, tuple(dim for dim in dims if dim not in (x, y, time)))


def _note_no_axes(dataset: Any, variable: str, dims: list[str], where: str, report: Report) -> None:
    """Say why there is no x or y: a curvilinear grid, or nothing that tells."""
    own = set(dims)
    for name, other in dataset.variables.items():
        if (
            len(other.dims) == 2
            and set(other.dims) <= own
            and kind_of(str(name), other) in ("x", "y")
        ):
            report.error(
                where,
                f"lies on a curvilinear grid: `{name}` has the dimensions {list(other.dims)}",
                "regrid it to rows and columns first (cdo remapbil, xESMF); if its x and y are "
                "those of a projection, give them coordinates and name crs=",
            )
            return
    what = f"no x or y among the dimensions {dims} of `{variable}`"
    report.error(where, what, "name them with x_dim= and y_dim=")


def find_crs(
    dataset: Any,
    variable: str,
    dims: Dimensions,
    given: pyproj.CRS | None,
    *,
    name: str,
    report: Report,
) -> pyproj.CRS | None:
    """Return the CRS of a variable: the one given, its grid mapping, or degrees by its axes."""
    where = f"{name}, `{variable}`"
    mapping = (
        str(attribute(dataset.variables[variable], "grid_mapping") or "").split(":")[0].strip()
    )
    own = _from_mapping(dataset, mapping or "spatial_ref", where, report)
    if given is not None:
        if own is not None and own != given:
            what = f"the file says {own.name}, crs= says {given.name}"
            report.warning(where, what, "crs= was taken")
        return given
    if own is not None:
        return own
    x = coordinate_of(dataset, dims.x)
    is_degrees = x is not None and (
        _EAST.match(str(attribute(x, "units") or ""))
        or attribute(x, "standard_name") == "longitude"
        or dims.x.lower() in ("lon", "long", "longitude")
    )
    if is_degrees:
        return pyproj.CRS(4326)
    what = "has no georeference: neither a grid mapping nor longitudes and latitudes"
    report.error(where, what, "say its CRS with crs=, such as crs=25832")
    return None


def _from_mapping(dataset: Any, mapping: str, where: str, report: Report) -> pyproj.CRS | None:
    """Return the CRS of a grid mapping variable, if there is one that says it."""
    if mapping not in dataset.variables:
        return None
    attributes = dict(dataset.variables[mapping].attrs)
    try:
        text = attributes.get("crs_wkt") or attributes.get("spatial_ref")
        crs = pyproj.CRS(text) if text else pyproj.CRS.from_cf(attributes)
    except (pyproj.exceptions.CRSError, KeyError, ValueError, TypeError) as error:
        what = f"its grid mapping `{mapping}` cannot be understood ({str(error)[:100]})"
        report.warning(where, what, "say the CRS with crs=")
        return None
    if crs.is_geographic and not crs.is_derived and (radius := _model_radius(crs)):
        what = f"degrees on the sphere of a model ({radius:,.0f} m)"
        report.info(where, what, "taken as WGS 84")
        return pyproj.CRS(4326)
    return crs


def _model_radius(crs: pyproj.CRS) -> float | None:
    """Return the radius of the sphere that degrees are on, as weather models have it."""
    ellipsoid = crs.ellipsoid
    if ellipsoid is None or ellipsoid.inverse_flattening:
        return None
    radius = float(ellipsoid.semi_major_metre)
    return radius if _SPHERE_M[0] < radius < _SPHERE_M[1] else None
