"""From features and gradients of one moment of training to numbers."""
