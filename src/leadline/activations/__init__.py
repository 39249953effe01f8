"""What an activation function is: its values and slopes, Gaussian expectations in closed form, a check."""

from leadline.activations.records import NAMES, Activation, Function, find, name

__all__ = ["NAMES", "Activation", "Function", "find", "name"]
