"""The plan: exponents keyed by parameter name, and what is done with them."""
