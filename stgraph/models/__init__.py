"""Models: one file each, one signature."""
