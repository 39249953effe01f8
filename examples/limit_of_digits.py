"""The limit of a ResNet on two digits, how far finite networks are from it, and lazy training."""

import leadline as ll

problem = ll.digits(classes=(0, 1), samples=16, test_samples=50)
network = ll.ResNet(activation="tanh", scheme="depth-mup")
sgd = ll.SGD(lr=0.3, steps=6)

limit = ll.limit(problem, network, sgd, rtol=0.05)
print(limit)
for width, depth in ((32, 4), (128, 8)):
    t = ll.train(problem, network, sgd, width=width, depth=depth, seeds=4)
    gap = abs(t.mean() - limit.train_loss).max()
    print(f"dense {width}x{depth}: largest distance of the mean loss to the limit {gap:.3f}")
print(ll.lazy(problem, network, sgd))
