"""Exponent tables: how hyperparameters depend on width and depth."""
