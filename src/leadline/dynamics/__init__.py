"""The limit itself: revealed operator, solver, kernels at initialization, extrapolation."""
