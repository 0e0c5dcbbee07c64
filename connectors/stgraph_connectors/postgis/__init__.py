"""Forecasts and readings in PostGIS: schema, publishing, layers for QGIS, reading back."""
