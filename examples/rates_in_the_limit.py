"""How does the best learning rate depend on depth, without the noise of finite networks?

Networks of two-layer blocks are solved at a large width with balanced noise, which reduces fluctuations.
The verdict is that of ``transfer``. LEADLINE_LARGE=1 goes to depth 32 at width 512.
"""

import math
import os

import leadline as ll

LARGE = bool(os.environ.get("LEADLINE_LARGE"))
DEPTHS, WIDTH, STEPS = ((4, 8, 16, 32), 512, 15) if LARGE else ((2, 4), 96, 5)
RATES = [2.0 ** (k / 4) for k in (range(-12, 5) if LARGE else range(-4, 5, 2))]

problem = ll.digits(classes=(3, 8), samples=32 if LARGE else 8, test_samples=0)
for scheme in ("depth-mup", "depth-mup-corrected", "completep"):
    network = ll.ResNet(activation="relu", block_layers=2, scheme=scheme)
    rows = []
    for depth in DEPTHS:
        for lr in RATES:
            run = ll.solve(
                problem, network, ll.SGD(lr=lr, steps=STEPS), width=WIDTH, depth=depth, seeds=3,
                variance_reduction="balanced", record_every=STEPS,
            )  # fmt: skip
            rows += [
                dict(depth=depth, lr=lr, seed=s, loss=v if math.isfinite(v) else math.inf)
                for s, v in enumerate(run.train_loss[:, -1])
            ]
    (axis,) = ll.transfer_from(rows, axes=("depth",)).axes
    best = ", ".join(f"{s.size}: {s.lr}" for s in axis.sizes)
    print(f"{scheme}: {axis.verdict}; drift {axis.drift} doublings of the rate a doubling of depth")
    print(f"  best rates by depth: {best}")
    if axis.verdict == "undecided":
        print(f"  {axis.reason}")
