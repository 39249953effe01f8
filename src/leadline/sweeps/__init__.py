"""Many training runs, and the store of their results."""
