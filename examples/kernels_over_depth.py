"""Feature learning inside the network: how kernels and features move over depth in training."""

import leadline as ll

problem = ll.digits(classes=(0, 1), samples=12, test_samples=0)
network = ll.ResNet(activation="relu", scheme="depth-mup")
request = ll.Measure(("feature_kernel", "activation_kernel", "movement"), steps=(0, -1))
sgd = ll.SGD(lr=0.2, steps=8)
s = ll.solve(problem, network, sgd, width=1024, depth=16, seeds=2, measure=request)
print(s)
for at, step in enumerate(s.measured_steps):
    movement = s.mean("movement")[at].mean(-1)
    alignment = s.alignment(problem.y).mean(0)[at]
    smallest = s.smallest_eigenvalue().mean(0)[at]
    for t, m, a, e in zip(s.times, movement, alignment, smallest, strict=True):
        print(f"step {step} t={t:.2f}: moved {m:.3f}, alignment {a:.3f}, eigenvalue {e:.2e}")
