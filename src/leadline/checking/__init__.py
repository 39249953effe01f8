"""Small sizes trained for a few steps: which layers keep what they learn over width and depth."""
