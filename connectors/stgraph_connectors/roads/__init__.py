"""Road networks from files, services and layers, as graphs of junctions or of segments."""
