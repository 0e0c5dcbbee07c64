"""Connectors of stgraph: readers of stations, and writers of layers that QGIS opens."""
