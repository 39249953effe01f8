"""What sweeps and studies have trained, in one SQLite file."""
