"""Infinitely wide networks at initialization: Gaussian expectations, and kernels through depth."""
