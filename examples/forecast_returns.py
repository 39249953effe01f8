"""How the loss of small ResNets on two digits falls with width and depth, and where that ends."""

import leadline as ll

problem = ll.digits(classes=(0, 1), samples=16, test_samples=0)
network = ll.ResNet(activation="tanh", scheme="depth-mup")
sgd = ll.SGD(lr=0.1, steps=8)

runs = []
for width in (64, 128, 256, 512):
    for depth in (2, 4, 8):
        # Every size its own seed: the noise of sizes has to be independent.
        t = ll.solve(
            problem, network, sgd, width=width, depth=depth, seeds=4, seed=width + depth,
            variance_reduction="balanced",
        )  # fmt: skip
        for s, loss in enumerate(t.train_loss[:, -1]):
            runs.append(dict(width=width, depth=depth, seed=s, loss=float(loss)))

limit = ll.limit(problem, network, sgd, rtol=0.03, seed=1000)
print(ll.forecast(runs, limit=limit))

# In theory the loss of this network is O(1/width + 1/depth) above its limit. With these exponents given,
# the same runs say much more.
f = ll.forecast(runs, limit=limit, exponents="theory")
print("\nwith the theory's exponents: floor", f.floor, f.limit)
print("loss at 1024x32:", f.predict(1024, 32))
print("width that is enough at depth 8:", f.diminishing("width", gain=1.0, depth=8))
print("best for 10 million:", f.best(1e7))
