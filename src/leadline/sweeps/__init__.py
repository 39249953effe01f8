"""Many training runs, and the store that keeps what they gave."""
