"""Dense networks as ordinary PyTorch: weights, forward pass, module, parameter groups."""
