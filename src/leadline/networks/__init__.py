"""Dense finite networks: an ordinary module, and training of several seeds at once."""

from leadline.networks.module import DenseResNet
from leadline.networks.train import train

__all__ = ["DenseResNet", "train"]
