"""What the tests of reports in a real browser share: opening a page, and what holds for any."""

import shutil
import time

from leadline.reporting.page_colours import contrast

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
SIZES = ((360, 740), (820, 1180), (1400, 900))

# Text with its colour and that of the ground below it, as "rgb(…)".
COLOURS = """() => [...document.querySelectorAll("body *")].filter(e =>
  [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) &&
  !e.closest("script, noscript, style, svg") && e.checkVisibility()
).map(e => {
  let ground = e;
  const of = (x) => getComputedStyle(x).backgroundColor;
  while (ground.parentElement && of(ground) === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
  return [e.tagName + "." + e.className, getComputedStyle(e).color, of(ground)];
})"""


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, context, address, size=SIZES[2], scheme="light"):
        self.page = context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        started = time.perf_counter()
        self.page.goto(address)
        self.loaded = time.perf_counter() - started
        self.page.wait_for_selector("html[data-drawn=all]", state="attached")
        self.drawn = time.perf_counter() - started

    def all(self, selector, script):
        return self.page.eval_on_selector_all(selector, f"all => all.map(e => {script})")


def opens_well(browser, address, size, scheme="light"):
    """Open a page, assert what every page owes its reader, and close it; the seconds it took.

    No message, no request but its own, every figure drawn, nothing wider than the window, every
    link leads somewhere, all text has a contrast of 4.5.
    """
    context = browser.new_context()
    try:
        one = Opened(context, address, size, scheme)
        assert one.said == []
        assert [u for u in one.asked if not u.startswith("data:")] == [address]
        plots = one.page.locator(".plot").count()
        marks = one.all(
            ".plot", "e.querySelectorAll('.point, .js-line, .heatmaplayer image').length"
        )
        assert plots == len(marks)
        assert min(marks, default=1) >= 1
        assert one.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        edges = "[e.getBoundingClientRect().left, e.getBoundingClientRect().right]"
        for left, right in one.all(".plot, .plot svg", edges):
            assert left >= 0
            assert right <= size[0]
        for href in one.all("a", "e.getAttribute('href')"):
            assert href.startswith("data:") or one.page.locator(f"[id='{href[1:]}']").count() == 1
        for text, colour, ground in one.page.evaluate(COLOURS):
            assert contrast(colour, ground) >= 4.5, (text, colour, ground)
        return one.loaded, one.drawn
    finally:
        context.close()
