"""The exponents of parameters in PyTorch's form, against hand-computed tables and measurements."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import leadline as ll
from leadline.parametrization.optimizers import OPTIMIZERS, optimizer
from leadline.parametrization.rules import DECAYS, ONE, ROLES, Place, Power, deviation, exponents
from leadline.parametrization.schemes import NAMES, SCHEMES, scheme

# (init, lr, weight decay, eps): powers of m, from Tensor Programs V (2203.03466) table 3 and the
# condition that lr·λ is kept (gradient steps, decoupled decay).
WIDTH = {
    "sgd": {
        "input": (0, 1, -1, 0),
        "hidden": (-0.5, 0, 0, 0),
        "readout": (-1, -1, 1, 0),
        "vector": (0, 1, -1, 0),
        "finite": (0, 0, 0, 0),
    },
    "adamw": {
        "input": (0, 0, 0, -1),
        "hidden": (-0.5, -1, 1, -1),
        "readout": (-1, -1, 1, 0),
        "vector": (0, 0, 0, -1),
        "finite": (0, 0, 0, 0),
    },
}
# Powers of r of (lr, weight decay, eps) inside branches, the multiplier not folded.
DEPTH = {
    ("sgd", "mup", False): (0, 0, 0),
    ("adamw", "mup", False): (0, 0, 0),
    ("sgd", "depth-mup", False): (0, 0, 0),
    ("adamw", "depth-mup", False): (-0.5, 0.5, -0.5),
    ("muon", "depth-mup", False): (-0.5, 0.5, 0),
    ("sgd", "depth-mup-corrected", False): (0.5, -0.5, 0),
    ("adamw", "depth-mup-corrected", False): (0, 0, -0.5),
    ("muon", "depth-mup-corrected", False): (0, 0, 0),
    ("sgd", "depth-mup-corrected", True): (0, 0, 0),
    ("adamw", "depth-mup-corrected", True): (-0.5, 0.5, -0.5),
    ("muon", "depth-mup-corrected", True): (-0.5, 0.5, 0),
    ("sgd", "completep", False): (1, -1, 0),
    ("adamw", "completep", False): (0, 0, -1),
    ("muon", "completep", False): (0, 0, 0),
    ("sgd", "completep", True): (1, -1, 0),
    ("adamw", "completep", True): (0, 0, -1),
}


@pytest.mark.parametrize("name", WIDTH)
@pytest.mark.parametrize("role", ROLES)
def test_width_table(name, role):
    e = exponents(SCHEMES["mup"], OPTIMIZERS[name], Place(role))
    got = (e.init.width, e.lr.width, e.weight_decay.width, e.eps.width)
    assert got == WIDTH[name][role]
    assert (e.init.depth, e.lr.depth, e.weight_decay.depth, e.eps.depth) == (0, 0, 0, 0)


@pytest.mark.parametrize("case", DEPTH, ids=str)
def test_depth_table(case):
    name, scheme, last = case
    place = Place("hidden", 1 if last else 0, 2, last)
    e = exponents(SCHEMES[scheme], OPTIMIZERS[name], place)
    assert (e.lr.depth, e.weight_decay.depth, e.eps.depth) == DEPTH[case]
    assert e.init.depth == 0


@pytest.mark.parametrize(
    ("name", "lr", "decay", "eps"),
    [("sgd", 2, -2, 0), ("adam", 1, -2, -1), ("adamw", 1, -1, -1), ("muon", 1, -1, 0)],
)
def test_folding_a_multiplier(name, lr, decay, eps):
    place, a = Place("hidden", 1, 2, True), Power(0.25, -1.0)
    plain = exponents(SCHEMES["mup"], OPTIMIZERS[name], place)
    folded = exponents(SCHEMES["mup"], OPTIMIZERS[name], place, a)
    assert folded.init - plain.init == a
    assert folded.lr - plain.lr == a * lr
    assert folded.weight_decay - plain.weight_decay == a * decay
    assert folded.eps - plain.eps == a * eps


def test_muon_conventions_differ_by_root_width():
    place = Place("hidden")
    plain, rms = (
        exponents(SCHEMES["mup"], OPTIMIZERS[n], place) for n in ("muon", "muon-match-rms")
    )
    assert plain.lr.width == 0
    assert (rms.lr.width, rms.weight_decay.width) == (-0.5, 0.5)


@given(
    st.sampled_from(sorted(SCHEMES)),
    st.sampled_from(sorted(OPTIMIZERS)),
    st.sampled_from(ROLES),
    st.booleans(),
)
def test_decay_per_step_is_kept(scheme, name, role, last):
    o = OPTIMIZERS[name]
    e = exponents(SCHEMES[scheme], o, Place(role, int(last), 2, last), Power(depth=-0.5))
    if o.update == "gradient" or o.decay == "decoupled":
        assert e.lr + e.weight_decay == ONE
        w = exponents(SCHEMES[scheme], o, Place(role, int(last), 2, last), ONE, "width")
        assert w.weight_decay.depth == 0


@given(st.floats(0.1, 64), st.floats(0.1, 64), st.floats(0.1, 64))
def test_factors_compose(m, r, k):
    p = Power(-0.5, 1.0)
    assert p.at(m, r) * p.at(k, k) == pytest.approx(p.at(m * k, r * k), rel=1e-12)
    assert p.at(1.0, 1.0) == 1.0


def test_lazy_adam_rates_keep_the_change_of_outputs():
    """ntk with Adam: rates n^-½, n^-3/2, n^-1. A single sign step's Δf must not depend on n."""
    rates = [
        exponents(SCHEMES["ntk"], OPTIMIZERS["adam"], Place(r)).lr.width
        for r in ("input", "hidden", "readout")
    ]
    assert rates == [-0.5, -1.5, -1.0]
    widths = (64, 128, 256, 512)
    moved = np.array([[_lazy_step(n, rates, seed) for seed in range(4)] for n in widths]).mean(1)
    slopes = np.polyfit(np.log(widths), np.log(moved), 1)[0]
    # Four seeds of a mean of four outputs over three octaves: the slopes scatter by about 0.03.
    assert np.abs(slopes).max() < 0.12


def _lazy_step(n, rates, seed, layers=4):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    weights = [normal(n, 10) / 10**0.5, *(normal(n, n) / n**0.5 for _ in range(layers))]
    weights.append(normal(1, n) / n**0.5)

    def f(p):
        h = x @ p[0].mT
        for w in p[1:-1]:
            h = h + 0.5 * torch.tanh(h) @ w.mT
        return h @ p[-1].mT

    for w in weights:
        w.requires_grad_()
    f0 = f(weights)
    gradients = torch.autograd.grad(((f0 - y) ** 2).mean(), weights)
    out = []
    groups = ([0], range(1, layers + 1), [layers + 1])
    for group, rate in zip(groups, rates, strict=True):
        moved = [
            w - (1e-3 * (n / 64) ** rate * g.sign() if i in group else 0)
            for i, (w, g) in enumerate(zip(weights, gradients, strict=True))
        ]
        out.append(float((f(moved) - f0).detach().abs().mean()))
    return out


def test_explain_says_every_entry_with_reason_and_source():
    text = str(ll.explain("completep", "adamw"))
    assert "2505.01618" in text
    for row in ll.explain("completep", "adamw").rows:
        assert len(row) == 6
        assert row[-1]
    rows = {r[0]: r[1:5] for r in ll.explain("completep", "adamw").rows}
    assert rows["hidden"] == ("m^-½", "m^-1", "m^1", "m^-1")
    assert rows["branch of 2 or more: last*"] == ("m^-½·r^-1", "m^-1·r^-1", "m^1·r^1", "m^-1")
    assert all(c == "1" for r in ll.explain("sp", "adamw").rows for c in r[1:5])


def test_explain_takes_a_table_of_the_users():
    mine = ll.Scheme("mine", -0.75, 0.5, 0.5, -1.0, 1.0, "between the two")
    rows = {r[0]: r[1:5] for r in ll.explain(mine, "sgd").rows}
    assert rows["branch of 2 or more: inner"][1] == "r^½"
    assert "the user's own" in str(ll.explain(mine))


@pytest.mark.parametrize("bad", ["adamax", "SGD2"])
def test_unknown_names_are_refused(bad):
    with pytest.raises(ValueError, match=f"optimizer='{bad}' is unknown: did you mean"):
        optimizer(bad)
    with pytest.raises(ValueError, match="scheme='completp' is unknown: did you mean 'completep'"):
        ll.explain("completp")


# Every optimizer's exponents of (lr, λ, ε), by hand, for mup in width: powers of m.
OTHERS = {
    # Entries of size lr, λ coupled: λw must keep its part of the gradient n^-1 (readout: 1).
    ("adam", "input"): (0, -1, -1),
    ("adam", "hidden"): (-1, -0.5, -1),
    ("adam", "readout"): (-1, 1, 0),
    ("adam", "vector"): (0, -1, -1),
    ("lion", "input"): (0, 0, 0),
    ("lion", "hidden"): (-1, 1, 0),
    ("lion", "readout"): (-1, 1, 0),
    ("signsgd", "input"): (0, 0, 0),
    ("signsgd", "hidden"): (-1, 1, 0),
    ("signsgd", "readout"): (-1, 1, 0),
    # Steps of size lr·RMS(w): what is drawn n^-½ moves n^-½ already. ε is the least RMS(w).
    ("adafactor", "input"): (0, 0, 0),
    ("adafactor", "hidden"): (-0.5, 0.5, -0.5),
    ("adafactor", "readout"): (0, 0, -1),
    ("adafactor", "vector"): (0, 0, 0),
    ("muon", "hidden"): (0, 0, 0),
    ("muon-match-rms", "hidden"): (-0.5, 0.5, 0),
    ("sgd", "finite"): (0, 0, 0),
    ("adafactor", "finite"): (0, 0, 0),
    ("adam", "finite"): (0, 0, 0),
}


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_every_optimizers_width_table(case):
    name, role = case
    e = exponents(SCHEMES["mup"], OPTIMIZERS[name], Place(role))
    assert (e.lr.width, e.weight_decay.width, e.eps.width) == OTHERS[case]


def test_adafactors_rate_knows_the_draw():
    """A step is lr·RMS(w) an entry: m^-1 where AdamW's is, of which the draw has m^-½ (hidden), m^-1."""
    for role, draw in (("hidden", -0.5), ("readout", -1.0), ("input", 0.0)):
        place = Place(role)
        adamw, ours = (
            exponents(SCHEMES["mup"], OPTIMIZERS[n], place) for n in ("adamw", "adafactor")
        )
        assert ours.lr.width + draw == adamw.lr.width
        # Folding changes RMS(w) with the weight, and the rate not at all; ε with it.
        folded = exponents(SCHEMES["mup"], OPTIMIZERS["adafactor"], place, Power(0.25, -1.0))
        assert (folded.lr, folded.weight_decay) == (ours.lr, ours.weight_decay)
        assert folded.eps - ours.eps == Power(0.25, -1.0)
    inside = Place("hidden", 1, 2, True)
    assert exponents(SCHEMES["completep"], OPTIMIZERS["adafactor"], inside).lr == Power(-0.5, 0.0)
    assert exponents(SCHEMES["depth-mup"], OPTIMIZERS["adafactor"], inside).lr == Power(-0.5, -0.5)


# (s, internal, last, p, q) of each scheme, from the papers' statements in the N(0, 1) form.
TABLE = {
    "ntk": (-0.5, 0, 0, -0.5, 0),
    "mup": (0, 0, 0, -1, 1),
    "depth-mup": (-0.5, 0, 0, -1, 1),
    "depth-mup-corrected": (-0.5, 0.5, 0, -1, 1),
    "completep": (-1, 1, 1, -1, 1),
}


def test_the_table_of_schemes():
    assert {
        n: (s.branch, s.rate_internal, s.rate_last, s.readout, s.rate_width)
        for n, s in SCHEMES.items()
    } == TABLE
    assert all(s.name == n for n, s in SCHEMES.items())
    # Which papers explain() names.
    assert {n: s.source for n, s in SCHEMES.items()} == {
        "ntk": "1806.07572, depth as 2310.02244",
        "mup": "2011.14522",
        "depth-mup": "2310.02244, 2309.16620",
        "depth-mup-corrected": "2512.21075",
        "completep": "2505.01618, 2603.00541",
    }
    assert (*SCHEMES, "auto") == NAMES
    assert ll.Scheme("mine", 0.0, 0.0, 0.0, -1.0, 1.0, "why").source == "the user's own"


def test_drift_and_noise_over_depth():
    """L·α²·c and L·α²: 0 where there is a limit."""
    drift = {n: [s.drift(j, 3) for j in range(3)] for n, s in SCHEMES.items()}
    assert drift == {
        "ntk": [0, 0, 0], "mup": [1, 1, 1], "depth-mup": [0, 0, 0],
        "depth-mup-corrected": [0.5, 0.5, 0], "completep": [0, 0, 0],
    }  # fmt: skip
    assert {n: s.noise for n, s in SCHEMES.items()} == {
        "ntk": 0, "mup": 1, "depth-mup": 0, "depth-mup-corrected": 0, "completep": -1,
    }  # fmt: skip
    corrected = SCHEMES["depth-mup-corrected"]
    assert [corrected.rate_depth(j, 2) for j in (0, 1)] == [0.5, 0]
    assert [scheme("auto", k).name for k in (1, 2, 3)] == ["depth-mup", "completep", "completep"]
    assert [scheme("mup", k).name for k in (1, 2)] == ["mup", "mup"]
    with pytest.raises(ValueError, match="scheme='mupp' is unknown"):
        scheme("mupp", 1)


def test_powers():
    p = Power(0.5, -1.0)
    assert (p.at(4.0, 2.0), p.at(1.0, 1.0)) == (1.0, 1.0)
    assert p.at(9.0, 2.0) == 1.5
    assert p + Power(1.0, 2.0) == Power(1.5, 1.0)
    assert p - Power(1.0, 2.0) == Power(-0.5, -3.0)
    assert p * 2.0 == Power(1.0, -2.0)
    assert [str(Power(*x)) for x in ((0, 0), (0.5, 0), (0, -0.5), (1.5, -1.5), (1, 0.25))] == [
        "1", "m^½", "r^-½", "m^1½·r^-1½", "m^1·r^0.25"]  # fmt: skip
    assert Power() == Power(0.0, 0.0) == ONE
    assert Power(0.0, 1.0) < Power(1.0, 0.0)


def test_places():
    assert [Place("hidden").inside, Place("hidden", 0, 1).inside] == [False, True]
    assert not Place("hidden", 0, 2).last


def test_the_deviation_of_every_role():
    due = {"input": 0.0, "hidden": -0.5, "vector": 0.0, "finite": 0.0}
    for name, s in SCHEMES.items():
        assert {r: deviation(s, r) for r in due} == due
        assert deviation(s, "readout") == (-0.5 if name == "ntk" else -1.0)


def test_what_has_no_scheme_has_no_exponents():
    for o in OPTIMIZERS.values():
        e = exponents(None, o, Place("hidden", 0, 2), Power(1.0, 1.0))
        assert (e.init, e.lr, e.weight_decay, e.eps) == (ONE, ONE, ONE, ONE)
    with pytest.raises(ValueError, match="role='outer' is unknown"):
        exponents(SCHEMES["mup"], OPTIMIZERS["sgd"], Place("outer"))
    with pytest.raises(ValueError, match="decay='steps' is unknown"):
        exponents(SCHEMES["mup"], OPTIMIZERS["sgd"], Place("hidden"), decay="steps")
    assert DECAYS == ("per-step", "width")


def test_decay_of_coupled_optimizers_over_depth():
    """torch's Adam adds λw to the gradient: in a branch with 1/r gradients fall as r^-1, w does not."""
    e = exponents(SCHEMES["completep"], OPTIMIZERS["adam"], Place("hidden", 0, 2))
    assert e.weight_decay == Power(-0.5, -1.0)
    e = exponents(
        SCHEMES["completep"], OPTIMIZERS["adam"], Place("hidden", 1, 2, True), Power(0, -1)
    )
    assert e.weight_decay == Power(-0.5, 1.0)
    e = exponents(SCHEMES["completep"], OPTIMIZERS["adam"], Place("hidden", 0, 2), decay="width")
    assert e.weight_decay == Power(-0.5, 0.0)
    e = exponents(SCHEMES["completep"], OPTIMIZERS["adamw"], Place("vector", 0, 2), decay="width")
    assert (e.lr, e.weight_decay, e.eps) == (ONE, ONE, Power(-1.0, -1.0))


def test_explain_names_its_places():
    rows = {r[0]: r[1:5] for r in ll.explain("depth-mup", "muon").rows}
    assert rows["branch of 2 or more: inner"] == ("m^-½", "r^-½", "r^½", "1")
    assert rows["input"] == ("1", "1", "1", "m^-1")
