import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random

import hypothesis
import numpy as np
import pytest
import torch

torch.set_num_threads(1)

# Where nobody looks at a failure and runs again, the same examples are tried every time; and a
# busy machine is no failure.
hypothesis.settings.register_profile("leadline", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("leadline")


def seed_all():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Before the fixtures that a module shares, whichever test needs them first."""
    seed_all()


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same global seeds: what it measures is the same every time."""
    seed_all()


@pytest.fixture(scope="module")
def digits():
    """The problem that sweeps train on."""
    import leadline as ll

    return ll.digits(classes=(0, 1), samples=32, test_samples=10)


@pytest.fixture(scope="module")
def browser():
    """Chromium with a new, empty profile; without one the test is skipped, and says so."""
    from page_browser import CHROMIUM, FLAGS

    api = pytest.importorskip("playwright.sync_api", reason="NO BROWSER: playwright is missing")
    if not CHROMIUM:
        pytest.skip("NO BROWSER: reports were not opened; apt-get install chromium")
    with api.sync_playwright() as p:
        try:
            made = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except api.Error as error:
            pytest.skip(f"NO BROWSER: {CHROMIUM} does not start: {str(error).splitlines()[0]}")
        yield made
        made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Before torch 2.9 there is no Muon, and leadline says so: what needs it is skipped there."""
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None
    needs = isinstance(error, ValueError | AttributeError) and "Muon" in str(error)
    if needs and not hasattr(torch.optim, "Muon"):
        outcome.force_exception(pytest.skip.Exception("torch has no Muon"))
