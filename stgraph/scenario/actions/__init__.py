"""What each kind of operation does to a road network."""
