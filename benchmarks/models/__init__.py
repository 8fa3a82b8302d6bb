"""Models that are fitted or trained: shapes, networks."""
