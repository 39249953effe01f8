"""Small models in plain PyTorch, for sweeps; they know nothing of schemes."""
