"""The limit itself: revealed Gaussian operator, solver, kernels at initialization, extrapolation."""
