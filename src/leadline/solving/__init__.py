"""Solving the training of a wide network through revealed Gaussian operators."""
