"""Sinks: one file each, `write_<name>(graph, target, *, ...)`."""
