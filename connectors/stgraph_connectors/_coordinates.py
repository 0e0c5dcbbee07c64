"""What can be known about coordinates from the numbers alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyproj

from stgraph.report import Report
from stgraph_connectors._tables import Table

Bools = npt.NDArray[np.bool_]

LATITUDE_NAMES = ("lat", "latitude", "lat_wgs84", "y_wgs84")
LONGITUDE_NAMES = ("lon", "lng", "long", "longitude", "lon_wgs84", "x_wgs84")
X_NAMES = ("x", "easting", "x_coord", "xcoord", "coord_x")
Y_NAMES = ("y", "northing", "y_coord", "ycoord", "coord_y")
_FAR_DEGREES = 5.0  # a station this far from all others may be swapped


def parse_crs(crs: str | int | None, report: Report, *, option: str = "crs") -> pyproj.CRS | None:
    """Return the CRS that an option names, or note that there is none of that name."""
    try:
        return None if crs is None else pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError:
        todo = "use an EPSG code such as 4326 or 'EPSG:2193'"
        report.error(f"`{option}`", f"{crs!r} is no CRS", todo)
        return None


def check_numbers(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    crs: pyproj.CRS,
    table: Table,
    names: tuple[object, object],
    report: Report,
) -> bool:
    """Note coordinates that cannot be of this CRS; True if there are any."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return False
    if not crs.is_geographic:
        small = known & (np.abs(x) <= 360) & (np.abs(y) <= 90) & ((x != 0) | (y != 0))
        if small.sum() == known.sum():
            first = int(np.argmax(small))
            report.error(
                table.at(first, names[0]),
                f"({x[first]:g}, {y[first]:g}) looks like degrees, but {crs.name} is in metres",
                "pass crs=4326 if these are longitude and latitude",
                count=int(small.sum()),
            )
            return True
        return False
    outside = known & ((np.abs(x) > 360) | (np.abs(y) > 90))
    if outside.any():
        first = int(np.argmax(outside))
        count = int(outside.sum())
        if (np.abs(x[outside]) <= 90).all() and (np.abs(y[outside]) <= 360).all():
            what, todo = "latitude and longitude look swapped", "swap the two columns"
        elif (np.abs(x[outside]) > 1000).any() or (np.abs(y[outside]) > 1000).any():
            what, todo = "these look like metres", "name their CRS: x_column=, y_column=, crs="
        else:
            what, todo = "no such place", "correct the coordinates"
        report.error(
            table.at(first, names[1]),
            f"latitude {y[first]:g}, longitude {x[first]:g} is outside of the globe, {what} "
            f"({count} station(s))",
            todo,
            count=count,
        )
        return True
    _warn_swapped(x, y, known, table, names, report)
    return False


def _warn_swapped(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    known: Bools,
    table: Table,
    names: tuple[object, object],
    report: Report,
) -> None:
    """Warn of single stations that would stand among the others if swapped."""
    middle_x, middle_y = np.median(x[known]), np.median(y[known])
    distance = np.hypot(x - middle_x, y - middle_y)
    swapped = np.hypot(y - middle_x, x - middle_y)
    odd = known & (distance > _FAR_DEGREES) & (swapped < distance / 10)
    if odd.any() and odd.sum() < known.sum() / 2:
        first = int(np.argmax(odd))
        report.warning(
            table.at(first, names[1]),
            f"latitude {y[first]:g}, longitude {x[first]:g} is far from all others but would be "
            f"among them if swapped ({int(odd.sum())} station(s))",
            "check these stations",
            count=int(odd.sum()),
        )


def blank_zero(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], table: Table, report: Report
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the coordinates with (0, 0) as missing: sources write it for want of a place."""
    zero = (x == 0) & (y == 0)
    if zero.any():
        first = int(np.argmax(zero))
        what = f"{int(zero.sum())} stations are at (0, 0)"
        report.warning(table.at(first), what, "taken as no coordinates", count=int(zero.sum()))
    return np.where(zero, np.nan, x), np.where(zero, np.nan, y)
