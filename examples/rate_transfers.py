"""Is the best learning rate of a narrow network also the best of wider ones?"""

import leadline as ll

problem = ll.digits(classes=(0, 1), samples=32, test_samples=0)
found = ll.transfer(
    problem,
    ll.residual_mlp(problem.dimension, problem.outputs),
    widths=[16, 32, 64],
    depths=[2],
    lrs=[2.0**k for k in range(-12, -2)],
    schemes=("sp", "mup"),
    seeds=3,
    steps=20,
    executor="inline",
)
print(found)
