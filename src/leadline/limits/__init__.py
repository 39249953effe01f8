"""Infinite width and depth: the lazy limit, and outputs extrapolated from growing sizes."""
