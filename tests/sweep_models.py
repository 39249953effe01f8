"""Builders that worker processes can import."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.up, self.down = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)

    def forward(self, h):
        return h + self.down(torch.relu(self.up(h)))


class Model(nn.Module):
    def __init__(self, width, depth, gain=1.0):
        super().__init__()
        self.embed = nn.Linear(64, width, bias=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 1, bias=False)
        self.gain = gain

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.gain * self.readout(h)


def square(x):
    return x * x


def fail_on_three(x):
    if x == 3:
        raise ValueError("three is not wanted")
    return x


def die_once(task):
    """Kill the worker the first time; the marker file remembers."""
    import os
    import signal

    marker, value = task
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def die(_):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_mark_and_stay(folder):
    """A file named as this process, then nothing for long."""
    import os
    import time

    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)


def refuse_to_load():
    """A task that pickles and does not come back."""
    return _Refused()


class _Refused:
    def __reduce__(self):
        return _raise, ()


def _raise():
    raise RuntimeError("not on this node")
