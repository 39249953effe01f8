"""Hidden weights of any model as matrices that are multiplied and never stored."""
