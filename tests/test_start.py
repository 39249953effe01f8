"""What a small call imports: libraries that it does not use cost seconds before the first step."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import leadline as ll
from leadline.intervals import f_tail, normal_quantile, t_quantile
from leadline.limits.ladder import _nonnegative
from leadline.problems import builtin

LIBRARIES = {"sklearn", "pandas", "plotly", "rich", "jinja2", "narwhals", "joblib", "sympy"}
UNUSED = LIBRARIES | {
    *("scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.interpolate", "scipy.integrate"),
    "scipy.linalg",
    *("torch._dynamo", "torch._inductor", "torch.onnx"),
}
OF_BUILDERS = {
    f"leadline.{part}" for part in ("matrixfree", "tracing", "planning", "checking", "sweeps")
}
PROBLEM = "--problem digits:0,1?samples=4,test_samples=0"
TINY = f"{PROBLEM} --width 32 --depth 2 --steps 1 --quiet"


def imported(*arguments: str) -> set[str]:
    """Names of all modules after a command."""
    code = (
        "import sys\n"
        "from leadline.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print('MODULES', *sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("MODULES")[1].split())


def test_a_small_solve_imports_nothing_that_it_does_not_use():
    names = imported("solve", *TINY.split())
    assert "torch" in names
    assert not names & (UNUSED | OF_BUILDERS | {"leadline.limits", "scipy"})


def test_a_plan_does_not_import_the_compiler(tmp_path):
    (tmp_path / "model.py").write_text(
        "from leadline import residual_mlp\n\nbuild = residual_mlp(inputs=8, outputs=2)\n"
    )
    assert "torch._dynamo" not in imported("plan", str(tmp_path / "model.py"))


def test_a_limit_imports_no_statistics_library():
    names = imported("limit", *TINY.split(), "--seeds", "2", "--rtol", "0.9")
    assert not names & UNUSED


def test_digits_are_those_of_scikit_learn(monkeypatch):
    from sklearn.datasets import load_digits

    expected = load_digits(return_X_y=True)
    for each, other in zip(builtin._pixels_and_digits(), expected, strict=True):
        assert each.dtype == other.dtype
        np.testing.assert_array_equal(each, other)
    before = ll.digits(classes=(3, 8), samples=6)
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    builtin._pixels_and_digits.cache_clear()
    try:
        again = ll.digits(classes=(3, 8), samples=6)
    finally:
        builtin._pixels_and_digits.cache_clear()
    np.testing.assert_array_equal(before.x, again.x)
    np.testing.assert_array_equal(before.y_test, again.y_test)


def test_digits_of_one_problem_do_not_change_those_of_the_next():
    first = ll.digits(classes=(0, 1), samples=4, test_samples=0, standardize=False)
    kept = first.x.copy()
    with pytest.raises(ValueError, match="read-only"):
        builtin._pixels_and_digits()[0][:] = 0
    np.testing.assert_array_equal(
        ll.digits(classes=(0, 1), samples=4, test_samples=0, standardize=False).x, kept
    )


@pytest.mark.parametrize("p", [0.005, 0.5, 0.975, 1 - 1e-6])
def test_quantiles_are_those_of_the_statistics_library(p):
    freedom = np.array([0.7, 1, 3, 9.5, 1e6, np.inf])
    np.testing.assert_allclose(t_quantile(p, freedom), stats.t.ppf(p, freedom), rtol=1e-9)
    assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-15)


def test_tails_are_those_of_the_statistics_library():
    ratio = np.array([0.0, 0.3, 1, 40, np.inf])
    for freedom in ((1, 3), (7, 30)):
        np.testing.assert_allclose(
            f_tail(ratio, *freedom), stats.f.sf(ratio, *freedom), rtol=1e-10, atol=0
        )


def test_coefficients_that_may_not_be_negative_are_those_of_nnls():
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    for _ in range(50):
        design = rng.random((5, 2)) * (1, rng.random())
        expected = nnls(design, np.ones(5))[0]
        np.testing.assert_allclose(_nonnegative(design), expected, rtol=1e-8, atol=1e-12)
