"""Trainings of any builder's models: what they are asked for, and hidden weights that are products."""
