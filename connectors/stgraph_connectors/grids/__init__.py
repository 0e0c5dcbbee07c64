"""Grids: squares, hexagons or polygons that count events, and rasters whose cells hold fields."""
