"""The choice of a law: candidates, what is held out, the F-test, one standard error, forms."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f as f_law

from leadline.forecasting import choice, noise
from leadline.forecasting.estimate import Fitted, estimate, prepare, residuals, with_scale
from leadline.forecasting.law import Law, Term
from leadline.forecasting.reading import read_runs as read

WIDTH, DEPTH = Term("width"), Term("depth")
OVER_WIDTH, OVER_DEPTH = Term("width", 1.0), Term("depth", 1.0)


def rows(widths, depths, loss, seeds=1, scatter=0.0):
    r = np.random.default_rng(0)
    return read(
        [
            dict(width=n, depth=l, seed=s, loss=loss(n, l) * np.exp(scatter * r.standard_normal()))
            for n in widths
            for l in depths
            for s in range(seeds)
        ]
    )


def both(n, l):
    return 0.2 + 5 * n**-0.7 + 0.6 * l**-1.3


def ready(runs):
    data = prepare(runs, np.ones(len(runs)))
    return replace(data, scale=0.01)


def names(laws):
    """The sums with a floor."""
    return {str(law) for law in laws if law.kind == "sum" and law.floor}


# --- candidates ---


def test_candidates_are_all_combinations():
    runs = rows((32, 64, 128), (2, 4, 8), both)
    widths, depths = ("", " + A/width", " + A·width^-a"), ("", " + B/depth", " + B·depth^-b")
    assert names(choice.candidates(runs)) == {f"E{w}{d}" for w in widths for d in depths}
    free = {f"E{w}{d}" for w in widths[::2] for d in depths[::2]}
    assert names(choice.candidates(runs, "free")) == free
    theory = {f"E{w}{d}" for w in widths[:2] for d in depths[:2]}
    assert names(choice.candidates(runs, "theory")) == theory


def test_two_values_of_an_axis_have_no_exponent():
    runs = rows((32, 64, 128), (2, 4), both)
    for exponents in ("auto", "free"):
        found = choice.candidates(runs, exponents)
        assert OVER_DEPTH in {t for law in found for t in law.terms}
        assert DEPTH not in {t for law in found for t in law.terms}


def test_an_axis_that_does_not_vary_has_no_term():
    runs = rows((32, 64, 128), (4,), both)
    assert names(choice.candidates(runs, "free")) == {
        "E"
    }  # three sizes, two free parameters at most
    more = rows((32, 64, 128, 256), (4,), both)
    assert names(choice.candidates(more, "free")) == {"E", "E + A·width^-a"}


def test_no_law_has_more_parameters_than_sizes_or_than_runs_but_one():
    sizes = rows((32, 64, 128), (4,), both, seeds=9)
    assert {law.parameters for law in choice.candidates(sizes)} == {1, 2, 3}
    runs = rows((32, 64, 128), (4,), both)
    assert {law.parameters for law in choice.candidates(runs)} == {1, 2}


# --- what is held out ---


def held(runs):
    sizes = list(zip(runs.sizes["width"], runs.sizes["depth"], strict=True))
    return {
        frozenset(s for s, out in zip(sizes, m, strict=True) if out) for m in choice.folds(runs)
    }


def test_folds_of_long_axes():
    """Five widths: the largest, the two largest; four depths: the largest."""
    n, l = (32, 64, 128, 256, 512), (2, 4, 8, 16)
    expected = {
        frozenset((512.0, float(d)) for d in l),
        frozenset((float(w), float(d)) for w in (256, 512) for d in l),
        frozenset((float(w), 16.0) for w in n),
    }
    assert held(rows(n, l, both, seeds=2)) == expected
    assert all(m.dtype == bool and len(m) == 40 for m in choice.folds(rows(n, l, both, seeds=2)))


def test_folds_of_short_axes():
    """Three widths: each size at the largest, all seeds of it; one fold found twice counts once."""
    runs = rows((32, 64, 128), (2, 4), both, seeds=3)
    expected = {frozenset({s}) for s in ((128.0, 2.0), (128.0, 4.0), (32.0, 4.0), (64.0, 4.0))}
    assert held(runs) == expected
    assert [m.sum() for m in choice.folds(runs)] == [3] * 4


def test_no_folds_without_an_axis_that_varies():
    assert choice.folds(rows((32, 64, 128), (4,), both).take(np.eye(3, dtype=bool)[0])) == []


def test_held_out_errors_are_of_sizes_and_of_the_rest():
    """log(mean loss/prediction), the prediction from the other runs alone."""
    runs = rows((32, 64, 128, 256), (2, 4), both, seeds=2, scatter=0.05)
    data = ready(runs)
    law = Law((OVER_WIDTH,))
    mask = runs.sizes["width"] == 256
    start = estimate(law, data).theta
    found = choice._errors(law, data, start, [mask])
    rest = estimate(law, data.take(~mask), start)
    value = rest.values({"width": np.array([256.0, 256.0])})[0]
    logs = np.log(runs.loss[mask].reshape(2, 2)).mean(1)
    assert found == pytest.approx(logs - np.log(value), abs=1e-7)
    assert len(choice._errors(law, data, start, [])) == 0
    twice = choice._errors(law, data, start, [mask, mask])
    assert twice == pytest.approx(np.tile(found, 2))


def test_a_law_without_noise_predicts_what_was_held_out():
    runs = rows((32, 64, 128, 256), (2, 4, 8, 16), both)
    data = ready(runs)
    law = Law((WIDTH, DEPTH))
    errors = choice._errors(law, data, estimate(law, data).theta, choice.folds(runs))
    assert errors == pytest.approx(np.zeros(8), abs=1e-6)


@pytest.mark.parametrize(
    ("law", "widths", "depths", "seeds", "determined"),
    [
        # Without the largest width: three levels determine an exponent, two a fixed one.
        (Law((WIDTH,)), (32, 64, 128, 256), (2, 4), 1, True),
        (Law((WIDTH,)), (32, 64, 128), (2, 4), 1, False),
        (Law((OVER_WIDTH,)), (32, 64, 128), (2, 4), 1, True),
        (Law((OVER_WIDTH,)), (32, 64), (2, 4), 3, False),
        # Four parameters: as many sizes, one run more.
        (Law((WIDTH, OVER_DEPTH)), (32, 64, 128, 256), (2, 4), 1, True),
        (Law((WIDTH, OVER_DEPTH)), (32, 64, 128, 256), (2,), 5, False),
    ],
)
def test_what_the_rest_does_not_determine(law, widths, depths, seeds, determined):
    runs = rows(widths, depths, both, seeds=seeds, scatter=0.01)
    data, mask = ready(runs), runs.sizes["width"] == widths[-1]
    start = np.zeros(law.parameters)
    errors = choice._errors(law, data, start, [mask])
    assert errors.shape == (len(depths),)
    assert np.isfinite(errors).all() == determined
    assert np.isnan(errors).all() != determined


def test_one_fold_that_determines_nothing_leaves_the_others():
    runs = rows((32, 64, 128), (2, 4, 8, 16), both, scatter=0.01)
    law = Law((WIDTH,))
    masks = [runs.sizes["width"] == 128, runs.sizes["depth"] == 16]
    errors = choice._errors(law, ready(runs), np.zeros(3), masks)
    assert np.isnan(errors).tolist() == [True] * 4 + [False] * 3


def test_as_many_parameters_as_runs_determine_nothing():
    """Three sizes left: an exponent, E and A take three runs, and one more to test them."""
    law, start = Law((WIDTH,)), np.zeros(3)
    single = rows((32, 64, 128, 256), (4,), both)
    mask = single.sizes["width"] == 256
    assert np.isnan(choice._errors(law, ready(single), start, [mask])).all()
    double = rows((32, 64, 128, 256), (4,), both, seeds=2)
    mask = double.sizes["width"] == 256
    assert np.isfinite(choice._errors(law, ready(double), start, [mask])).all()


# --- the F-test ---


def fitted(law, cost):
    return Fitted(law, {}, 1.0, np.zeros(law.parameters), cost, np.zeros((0, law.parameters)))


def test_the_f_test():
    """Σr² 3.0 with 2 parameters against 2.0 with 5, of 25 runs: F = (1/3)/(2/20) on 3 and 20."""
    small, full = Law((OVER_WIDTH,)), Law((WIDTH, DEPTH))
    p = choice._against(fitted(small, 3.0), fitted(full, 2.0), 25)
    assert p == pytest.approx(f_law.sf((1 / 3) / (2 / 20), 3, 20), rel=1e-12)
    # What fits better than the law with more parameters is not rejected.
    assert choice._against(fitted(small, 1.9), fitted(full, 2.0), 25) == 1.0
    assert choice._against(fitted(full, 9.0), fitted(full, 2.0), 25) == 1.0
    assert choice._against(fitted(full, 9.0), fitted(small, 2.0), 25) == 1.0


def test_the_f_test_without_noise():
    """A perfect full law: another is as good, or it is wrong."""
    small, full = Law((OVER_WIDTH,)), Law((WIDTH, DEPTH))
    assert choice._against(fitted(small, 1e-20), fitted(full, 1e-21), 25) == 1.0
    assert choice._against(fitted(small, 1e-6), fitted(full, 1e-21), 25) == 0.0
    # 25 runs: perfect is below 25e-18, as good is below 25e-16.
    assert choice._against(fitted(small, 24e-16), fitted(full, 24e-18), 25) == 1.0
    assert choice._against(fitted(small, 26e-16), fitted(full, 24e-18), 25) == 0.0
    assert 0 < choice._against(fitted(small, 30e-18), fitted(full, 26e-18), 25) < 1


# --- one standard error ---

LAWS = [Law(()), Law((OVER_WIDTH,)), Law((WIDTH,)), Law((OVER_WIDTH, OVER_DEPTH))]
FITS = dict.fromkeys(LAWS, 1.0)


def simplest(*errors, rejected=FITS, laws=LAWS):
    return choice._simplest(laws, dict(zip(laws, map(np.array, errors), strict=True)), rejected)


def test_the_best_prediction_is_chosen_where_nothing_is_near_it():
    far, near = [1.0, -1.1, 0.9], [0.01, -0.01, 0.01]
    assert simplest(far, far, near, far) == LAWS[2]
    assert simplest(far, far, far, near) == LAWS[3]
    assert simplest(near, far, far, far) == LAWS[0]


def test_the_simplest_within_a_standard_error():
    """Squares of the simpler law less those of the best: mean m, standard error s/√3."""
    best = np.array([0.1, 0.1, 0.1])
    extra = np.array([0.0, 0.01, 0.05])  # mean 0.02, standard deviation 0.0265: error 0.0153
    wide = np.array([-0.005, 0.01, 0.05])  # mean 0.0183, error 0.0164
    narrow = np.array([-0.009, 0.0, 0.04])  # mean 0.0103, error 0.0150
    close = narrow + 0.0034  # mean 0.0137; an error over 3, not 2, were 0.0122
    far = [1.0, -1.1, 0.9]
    for more, chosen in ((extra, 3), (wide, 3), (narrow, 1), (close, 1)):
        assert simplest(far, np.sqrt(best**2 + more), far, best) == LAWS[chosen]


def test_two_held_out_sizes():
    """Too few for a standard error of their own: the mean square's, √(2/k) of it."""
    far, best = [1.0, 1.0], np.array([0.1, 0.1])
    for factor, chosen in ((1.99, 1), (2.01, 3)):
        assert simplest(far, np.sqrt(factor) * best, far, best) == LAWS[chosen]
    one = np.array([0.1])
    for factor, chosen in ((2.41, 1), (2.42, 3)):
        assert simplest([1.0], np.sqrt(factor) * one, [1.0], one) == LAWS[chosen]


def test_of_equally_simple_laws_the_better_predicts():
    laws = [Law((OVER_WIDTH,)), Law((OVER_DEPTH,)), Law((WIDTH, DEPTH))]
    a, b = np.array([0.11, 0.1, 0.09]), np.array([0.1, 0.1, 0.1])
    assert simplest(a, b, [1.0, 1.0, 1.0], rejected=dict.fromkeys(laws, 1.0), laws=laws) == laws[1]
    assert simplest(b, a, [1.0, 1.0, 1.0], rejected=dict.fromkeys(laws, 1.0), laws=laws) == laws[0]


def test_exact_predictions_are_near_one_another():
    """Rounding aside they are the same: the simpler law is taken."""
    exact, zero = [1e-10, 0.0, -1e-10], [0.0, 0.0, 0.0]
    assert simplest([1.0, 1.0, 1.0], exact, zero, zero) == LAWS[1]
    assert simplest([1.0, 1.0, 1.0], [1e-8] * 3, [1e-8] * 3, zero) == LAWS[3]


def test_a_law_that_its_fit_rejects_is_not_chosen():
    same = [0.1, 0.1, 0.1]
    rejected = dict(zip(LAWS, (0.04, 0.05, 0.06, 1.0), strict=True))
    assert simplest(same, same, same, same, rejected=rejected) == LAWS[2]


def test_a_law_that_cannot_be_tested_is_not_chosen():
    nan = [np.nan, 0.0, 0.0]
    same = [0.1, 0.1, 0.1]
    assert simplest(nan, nan, same, same) == LAWS[2]


def test_where_nothing_can_be_held_out_the_simplest_that_fits():
    rejected = dict(zip(LAWS, (0.01, 0.2, 0.9, 1.0), strict=True))
    nothing = np.zeros(0)
    assert simplest(nothing, nothing, nothing, nothing, rejected=rejected) == LAWS[1]
    laws = [Law((OVER_WIDTH,)), Law((OVER_DEPTH,)), Law((WIDTH, DEPTH))]
    better = dict(zip(laws, (0.2, 0.6, 1.0), strict=True))
    assert simplest(nothing, nothing, nothing, rejected=better, laws=laws) == laws[1]
    nan = [np.nan]
    assert simplest(nan, nan, nan, rejected=better, laws=laws) == laws[1]


# --- all of it ---


def test_the_table_of_a_choice():
    runs = rows((32, 64, 128, 256), (2, 4, 8, 16), both, seeds=2, scatter=0.01)
    seen = []
    made = choice.choose(
        prepare(runs, np.ones(len(runs))), "auto", lambda i, k: seen.append((i, k))
    )
    laws = len(choice.candidates(runs))
    assert seen == [(i, 2 * laws) for i in range(2 * laws)]
    parameters = [row.parameters for row in made.table]
    assert parameters == sorted(parameters)
    assert [row.law for row in made.table if row.chosen] == [str(made.fitted.law)]
    assert made.cells == 8  # four sizes at the largest width, four at the largest depth
    by = {row.law: row for row in made.table}
    full = by["E + A·width^-a + B·depth^-b"]
    assert full.rejected == 1.0
    assert by["E"].rejected < 1e-6
    errors = choice._errors(made.fitted.law, made.data, made.fitted.theta, choice.folds(runs))
    chosen = by[str(made.fitted.law)]
    assert chosen.error == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
    assert chosen.floor == pytest.approx(made.fitted.theta[0] * made.data.unit, rel=1e-9)
    assert by["E"].floor == 0.0  # a mean is no floor
    # The scale is the fullest law's.
    fullest = Law((WIDTH, DEPTH))
    left = residuals(fullest, estimate(fullest, made.data).theta, made.data)
    assert made.data.scale == pytest.approx(noise.scale(left, 5), rel=1e-3)


def test_the_sibling_has_the_same_terms_with_free_exponents():
    over = rows((32, 64, 128, 256), (2, 4, 8, 16), lambda n, l: 0.2 + 16 / n + 0.8 / l, 3, 0.02)
    made = choice.choose(prepare(over, np.ones(len(over))), "auto", lambda i, k: None)
    assert str(made.fitted.law) == "E + A/width + B/depth"
    assert str(made.sibling.law) == "E + A·width^-a + B·depth^-b"
    theory = choice.choose(prepare(over, np.ones(len(over))), "theory", lambda i, k: None)
    assert theory.sibling is None
    free = choice.choose(prepare(over, np.ones(len(over))), "free", lambda i, k: None)
    assert free.sibling is None
    short = rows((32, 64, 128, 256), (2, 4), lambda n, l: 0.2 + 16 / n + 0.8 / l, 3, 0.02)
    made = choice.choose(prepare(short, np.ones(len(short))), "auto", lambda i, k: None)
    assert str(made.fitted.law) == "E + A/width + B/depth"
    assert str(made.sibling.law) == "E + A·width^-a + B/depth"


def test_of_several_fullest_laws_the_best_sets_the_scale():
    """Three sizes allow three parameters, and so three fullest laws: the one that fits is the measure."""
    sizes = np.repeat([(32, 2), (64, 8), (128, 4)], 4, axis=0)
    noises = 0.001 * np.random.default_rng(0).standard_normal(12)
    runs = read(
        [
            dict(width=n, depth=l, seed=i, loss=(0.2 + 16 / n) * np.exp(x))
            for i, ((n, l), x) in enumerate(zip(sizes, noises, strict=True))
        ]
    )
    data = prepare(runs, np.ones(12))
    made = choice.choose(data, "auto", lambda i, k: None)
    fullest = [Law((WIDTH,)), Law((DEPTH,)), Law((OVER_WIDTH, OVER_DEPTH))]
    scales = [with_scale(law, data).scale for law in fullest]
    assert max(scales) > 20 * min(scales)
    assert made.data.scale == pytest.approx(min(scales), rel=1e-6)
    rejected = {row.law: row.rejected for row in made.table}
    assert rejected["E"] < 1e-9
    assert rejected["E + B/depth"] < 1e-9
    assert rejected["E + A/width"] > 0.05
    assert str(made.fitted.law) == "E + A/width"


def test_which_exponents_the_sibling_frees():
    runs = rows((32, 64, 128), (2, 4), both)
    assert choice._freed(OVER_WIDTH, runs, "auto") == WIDTH
    assert choice._freed(WIDTH, runs, "free") == WIDTH
    assert choice._freed(OVER_DEPTH, runs, "auto") == OVER_DEPTH
    assert choice._freed(OVER_WIDTH, runs, "theory") == OVER_WIDTH


def test_what_cannot_be_held_out_has_no_error():
    runs = rows((32, 64), (2, 4), lambda n, l: 0.2 + 16 / n + 0.8 / l, seeds=3, scatter=0.01)
    made = choice.choose(prepare(runs, np.ones(len(runs))), "auto", lambda i, k: None)
    by = {row.law: row.error for row in made.table}
    assert by["E + A/width + B/depth"] is not None
    line = rows((32, 64, 128), (4,), both, seeds=3, scatter=0.01)
    made = choice.choose(prepare(line, np.ones(len(line))), "auto", lambda i, k: None)
    by = {row.law: row.error for row in made.table}
    assert by["E + A·width^-a"] is None
    assert by["E + A/width"] is not None


# --- three axes ---


def three(loss, scatter=0.005):
    r = np.random.default_rng(1)
    return read(
        [
            dict(
                width=n,
                depth=l,
                steps=k,
                loss=loss(n, l, k) * np.exp(scatter * r.standard_normal()),
            )
            for n in (32, 64, 128)
            for l in (2, 4, 8)
            for k in (100, 300, 900)
        ]
    )


def test_what_the_fit_rejects_of_three_axes_is_not_held_out():
    """Loss falls as 1/width and as steps^-0.5, and not with depth: held out is no law without width or
    steps, and no other than 1/width or width^-a."""
    runs = three(lambda n, l, k: 0.2 + 16 / n + 4 * k**-0.5)
    made = choice.choose(prepare(runs, np.ones(len(runs))), "auto", lambda i, k: None)
    held = [row for row in made.table if row.error is not None]
    assert all("width" in row.law and "steps" in row.law for row in held)
    assert all(row.rejected > 0.05 for row in held)
    assert {row.law for row in held} >= {"E + A/width + D·steps^-d"}
    assert {t.axis for t in made.fitted.law.terms} == {"width", "steps"}


# --- forms ---


def test_forms_of_two_axes():
    runs = rows((32, 64, 128, 256), (2, 4, 8, 16), both)
    kinds = {law.kind for law in choice.candidates(runs)}
    assert kinds == {"sum", "kaplan", "product"}
    assert {law.kind for law in choice.candidates(runs, "theory")} == {"sum"}
    for kind in ("sum", "kaplan", "product"):
        some = choice.candidates(runs, "auto", kind)
        assert {law.kind for law in some if law.free} == {kind}
        assert {law.floor for law in some} == {True, False}
    # With two values of an axis no form couples it.
    short = rows((32, 64, 128, 256), (2, 4), both)
    assert {law.kind for law in choice.candidates(short)} == {"sum"}


def test_the_planted_form_is_chosen():
    """40 scattered runs at .3 % noise tell a sum of powers from Kaplan's form."""
    r = np.random.default_rng(0)
    n, d = np.exp(r.uniform(np.log([[1e7], [1e8]]), np.log([[1e10], [1e11]]), (2, 40)))
    noise_ = np.exp(0.003 * r.standard_normal(40))
    for kind, loss in {
        "sum": 1.8 + 480 * n**-0.35 + 2085 * d**-0.37,
        "kaplan": ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103,
    }.items():
        runs = read([dict(N=a, D=b, loss=c) for a, b, c in zip(n, d, loss * noise_, strict=True)])
        made = choice.choose(prepare(runs, np.ones(40)), "auto", lambda i, k: None)
        assert made.fitted.law.kind == kind
        assert made.fitted.law.floor == (kind == "sum")
        assert made.rivals == ()


def test_one_bad_run_does_not_decide_what_is_held_out():
    """Errors beyond five medians count as five."""
    good, bad = np.full(12, 0.01), np.full(12, 0.03)
    good[0] = 3.0
    assert simplest(bad, bad, good, bad) == LAWS[2]
