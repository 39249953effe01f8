"""Builders that worker processes can import."""

import torch
from torch import nn

from leadline.tasks.data import copied


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


def count_until_seen(path, report):
    """Wait for the file that whoever sees the number makes."""
    import os
    import time

    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError("nobody saw the number")
        report(7)
        time.sleep(0.01)
    return 7


def count_up(most, report):
    for i in range(most):
        report(i + 1)
    return most


def count_and_fail(x, report):
    report(1)
    return fail_on_three(x)


def count_and_die_once(path, report):
    """Another thread kills the worker the first time, in the middle of reports."""
    import os
    import signal
    import threading

    if os.path.exists(path):
        return count_up(7, report)
    open(path, "w").close()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return count_up(10**9, report)


def leave_a_mark_and_stay(folder):
    """A file named as this process, then nothing for long."""
    import os
    import time

    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)


def stay(folder, report):
    report(1)
    leave_a_mark_and_stay(folder)


def refuse_to_load():
    """A task that pickles and does not come back."""
    return _Refused()


class _Refused:
    def __reduce__(self):
        return _raise, ()


def _raise():
    raise RuntimeError("not on this node")


def plain_loop(model, optimizers, data, run):
    """Losses before each step of a training loop as a user writes it."""
    losses = []
    for step in range(run.steps):
        loss = data.loss(model, copied(data.batch(step, run.batch_size, run.seed)))
        losses.append(float(loss.detach()))
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
    return losses
