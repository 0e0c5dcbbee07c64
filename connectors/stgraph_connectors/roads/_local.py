"""Coordinate systems of networks that are nowhere on Earth."""

from __future__ import annotations

import pyproj

_AXES = 'AXIS["Easting",EAST],AXIS["Northing",NORTH]'

LOCAL_METRES = pyproj.CRS(f'LOCAL_CS["local metres",UNIT["metre",1],{_AXES}]')
LOCAL_UNITS = pyproj.CRS(f'LOCAL_CS["local units",UNIT["unknown",1],{_AXES}]')
