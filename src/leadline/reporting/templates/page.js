// Figures in view first, the others when the browser has time.
const figures = [...document.querySelectorAll("script[data-for]")].map((s) => new Figure(s));

function drawNext() {
  const next = figures.find((f) => !f.drawn);
  if (next) next.draw();
  if (figures.some((f) => !f.drawn)) later(drawNext);
  else document.documentElement.dataset.drawn = "all";
}
const later = (act) => (window.requestIdleCallback ?? ((f) => setTimeout(f, 1)))(act);

const inView = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) {
    const figure = figures.find((f) => f.plot === target);
    if (isIntersecting && !figure.drawn) figure.draw();
  }
});
for (const figure of figures) inView.observe(figure.plot);
later(drawNext);

const again = () => figures.filter((f) => f.drawn).forEach((f) => f.draw());
wantsDark.addEventListener("change", again);

const widths = new Map();
const resized = new ResizeObserver((changes) => {
  for (const { target, contentRect } of changes) {
    if (widths.get(target) === contentRect.width) continue;
    widths.set(target, contentRect.width);
    const figure = figures.find((f) => f.plot === target);
    if (figure.drawn) figure.draw();
    else figure.reserve();
  }
});
for (const figure of figures) resized.observe(figure.plot);

// Paper is white and 680 pixels wide.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("printing");
  for (const figure of figures) {
    figure.plot.style.width = "680px";
    figure.draw();
  }
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("printing");
  for (const figure of figures) figure.plot.style.width = "";
  again();
});

for (const copy of document.querySelectorAll(".copy")) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const code = copy.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    document.getElementById("said").textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; document.getElementById("said").textContent = ""; }, 2000);
  });
}
