import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


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
