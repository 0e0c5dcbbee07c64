"""stgraph: graph-based spatiotemporal forecasts that open in QGIS."""
