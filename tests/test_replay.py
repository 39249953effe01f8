"""The solver is a dense network: reveal all of W(0), and train that network by autograd.

With tol = 0 the two agree to rounding, whatever the recipe; this is exact, no statistics. Revealed
afterwards, the outputs of full-batch training agree; what was asked and forgotten on the way
(evaluations of mini-batch training, backward measures) is one draw from its law, and agrees where
everything is revealed before.
"""

import numpy as np
import pytest
import torch

from leadline.activations import find
from leadline.architecture import ResNet
from leadline.dense.forward import Weights, forward, param_groups
from leadline.measure.observation import Measure, numbers
from leadline.problems import arrays
from leadline.problems.losses import loss_value
from leadline.recipes.sgd import SGD
from leadline.solving.configuration import Configuration
from leadline.solving.training import Training
from leadline.training.loop import take


def problem(outputs=3, samples=5, d=4, loss="mse", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, d))
    if loss == "mse":
        y = rng.standard_normal((samples, outputs))
    else:
        y = np.arange(samples) % outputs
    return arrays(x, y, loss=loss, standardize=False)


CASES = {
    "one layer": (ResNet("tanh"), SGD(lr=0.5, steps=6), {}),
    "momentum and decay": (
        ResNet("gelu"),
        SGD(lr=0.2, steps=6, momentum=0.9, weight_decay=0.1),
        {},
    ),
    "batches, schedule": (
        ResNet("relu", gain=1.3, horizon=2.0),
        SGD(lr=0.3, steps=7, batch_size=2, weight_decay=0.05, schedule=lambda k: 1 / (1 + k)),
        {},
    ),
    "two layers, completep": (ResNet("tanh", block_layers=2), SGD(lr=0.5, steps=5), {}),
    "two layers, corrected": (
        ResNet("silu", block_layers=2, scheme="depth-mup-corrected"),
        SGD(lr=0.3, steps=5, momentum=0.5, batch_size=3),
        {},
    ),
    "three layers, mup": (ResNet("erf", block_layers=3, scheme="mup"), SGD(lr=0.2, steps=4), {}),
    "no skip": (ResNet("tanh", skip=False, gain=1.2), SGD(lr=0.5, steps=5), {}),
    "ntk": (ResNet("tanh", scheme="ntk"), SGD(lr=0.5, steps=5), {}),
    "cross-entropy, centred": (
        ResNet("tanh"),
        SGD(lr=0.5, steps=5, center=True),
        {"loss": "cross_entropy"},
    ),
    "hidden only": (
        ResNet("identity"),
        SGD(lr=0.3, steps=5, train="hidden", momentum=0.9, weight_decay=0.1),
        {},
    ),
    "readout only, one output": (
        ResNet("relu"),
        SGD(lr=0.3, steps=4, train="readout"),
        {"outputs": 1},
    ),
    "own activation": (
        ResNet(lambda h: torch.sin(h) + 0.1 * h),
        SGD(lr=0.3, steps=4, train=("input", "hidden")),
        {},
    ),
}


@pytest.mark.parametrize(
    ("ensemble", "before"),
    [("gaussian", True), ("gaussian", False), ("fast", True)],
    ids=["revealed before", "revealed after", "fast"],
)
@pytest.mark.parametrize("coupling", ["reused", "independent"])
@pytest.mark.parametrize("case", CASES)
def test_solver_is_autograd_on_the_revealed_weights(case, coupling, ensemble, before):
    network, sgd, data = CASES[case]
    n, depth, p = (24 if sgd.center else 12), 3, problem(**data)
    request = Measure(
        ("feature_kernel", "gradient_kernel", "tangent_kernel", "movement"), steps=(0, 2, -1)
    )
    exact = dict(
        coupling=coupling, ensemble=ensemble, seed=3, dtype="float64", tol=0.0, measure=request
    )
    work = Training(Configuration(p, network, sgd, width=n, depth=depth, **exact))
    run = work.network
    eye, all_rows = torch.eye(n, dtype=torch.float64), torch.ones(n, dtype=torch.bool)
    operators = [o for block in run.operators for o in block]
    if before:
        for o in operators:
            o.query(eye)
            o.query_transposed(eye)
    if sgd.center:
        centre = run.center

        def noted(x):
            centre(x)
            starts.append(run.v.value.clone())

        run.center = noted
    starts = [run.v.value.clone()]
    u0 = run.u.value.clone()
    while not work.done:
        work.advance()

    back = None
    # W(0) may have been drawn whole on the way.
    operators = [o for block in run.operators for o in block]
    # What the solver computes belongs to inference: autograd takes copies.
    with torch.inference_mode():
        asked = [o.query(eye, initial=all_rows)[0].mT * n**0.5 for o in operators]
        if coupling == "independent":
            # The law of both matrices is tested in test_operator; here they only have to be used.
            other = [o.query_transposed(eye, initial=all_rows)[0] * n**0.5 for o in operators]
    hidden = [w.clone() for w in asked]
    starts = [v.clone() for v in starts]
    if coupling == "independent":
        back = [w.clone() for w in other]
        assert not torch.allclose(back[0], hidden[0])
    weights = Weights(u0, hidden, starts[-1], back)
    for w in weights.tensors:
        w.requires_grad_()
    groups = param_groups(network, sgd, weights, depth)
    rates = [g["lr"] for g in groups]
    optimizer = torch.optim.SGD(groups)
    x, y = torch.tensor(p.x), torch.tensor(p.y)
    h_initial = None
    for k, batch in enumerate([*sgd.batches(p.samples, 3), None]):
        f = forward(network, weights, x)
        expected = f.detach().numpy()
        if before or (work.full and k < sgd.steps):
            error = np.abs(work.record.arrays["train_outputs"][k] - expected).max()
            assert error < (1e-12 if ensemble == "fast" else 1e-10)
        if before and (k in request.at(sgd.steps) or k == 0):
            still = Weights(
                u0.detach(),
                [w.detach() for w in hidden],
                weights.readout.detach(),
                back and [w.detach() for w in back],
            )
            shot = take(network, still, x, request, h_initial)
            h_initial = shot.h_initial if k == 0 else h_initial
            phi = find(network.activation).value
            for name, value in numbers(request, shot, phi).items():
                assert np.abs(work.record.measures[k][name] - value).max() < 1e-9, name
        if batch is None:
            break
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * sgd.multiplier(k)
        optimizer.zero_grad()
        loss_value(p.loss, forward(network, weights, x[batch]), y[batch]).backward()
        optimizer.step()
    assert k == sgd.steps
