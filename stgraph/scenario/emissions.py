"""Carbon dioxide of cars by their mean speed."""

from __future__ import annotations

import numpy as np

from stgraph.scenario._routes import Values

_KM_PER_MILE = 1.609344
# ln(g per mile) as a polynomial of miles per hour, lowest power first
_COEFFICIENTS = (
    7.613534994965560,
    -0.138565467462594,
    0.003915102063854,
    -0.000049451361017,
    0.000000238630156,
)
SPEED_RANGE_KMH = (8.0, 130.0)  # what the curve is made for: 5 to 80 miles per hour


def co2_g_per_km(speed_kmh: Values) -> Values:
    """Return the carbon dioxide that a car gives off per kilometre, at a mean speed.

    Parameters
    ----------
    speed_kmh
        Mean speeds, of any shape; below 8 and above 130 km/h the value of the limit is taken.

    Returns
    -------
    Values
        Grams per kilometre, NaN where the speed is.

    Notes
    -----
    The curve of real-world driving of M. Barth and K. Boriboonsomsin, Real-World Carbon Dioxide
    Impacts of Traffic Congestion, Transportation Research Record 2058 (2008), also report
    UCTC-FR-2010-11: light-duty vehicles of Southern California at that time. Cars of today and of
    elsewhere give off less; changes in per cent carry over better than kilograms.
    """
    mph = np.clip(np.asarray(speed_kmh, dtype=np.float64), *SPEED_RANGE_KMH) / _KM_PER_MILE
    return np.exp(np.polynomial.polynomial.polyval(mph, _COEFFICIENTS)) / _KM_PER_MILE
