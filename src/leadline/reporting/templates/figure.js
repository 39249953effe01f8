// One figure: drawn for the width it has, redrawn when that or the colours change.
const NARROW = 600;

class Figure {
  constructor(source) {
    this.plot = document.getElementById(source.dataset.for);
    this.given = JSON.parse(source.textContent);
    this.hidden = new Set();
    this.drawn = false;
    this.reserve();
  }

  get width() { return this.plot.clientWidth; }
  get layout() { return this.width < NARROW ? this.given.narrow : this.given.wide; }
  get height() { return this.layout.height ?? 420; }

  // Room for what is not drawn yet: the page does not jump.
  reserve() { this.plot.style.minHeight = this.height + "px"; }

  draw() {
    const map = isDark() ? this.given.dark : {}, narrow = this.width < NARROW;
    const touch = matchMedia("(pointer: coarse)").matches;
    const data = recoloured(this.given.data, map).map((trace, i) => ({
      ...trace,
      ...(narrow && this.given.bars[i] ? { colorbar: recoloured(this.given.bars[i], map) } : {}),
      ...(this.hidden.has(i) ? { visible: false } : {}),
    }));
    const layout = {
      ...recoloured(this.layout, map), dragmode: touch ? false : "zoom", height: this.height,
      showlegend: false, template: template(), uirevision: "same", width: this.width,
    };
    // The titles of panels stand above the first row.
    const titles = (layout.annotations ?? []).filter((a) => a.yref === "paper" && a.y >= 0.999);
    const lines = Math.max(0, ...titles.map((a) => a.text.split("<br>").length));
    if (lines) layout.margin = { ...layout.template.layout.margin, t: 16 + 20 * lines };
    this.reserve();
    try {
      Plotly.react(this.plot, data, layout, { displayModeBar: false, doubleClick: "reset" });
      if (!this.drawn) this.dress();
      this.legend.refresh();
    } catch (error) {
      this.plot.textContent = "This figure could not be drawn.";
      this.plot.classList.add("failure");
      console.error(this.plot.id, error);
    }
    this.drawn = true;
  }

  // What stands around a figure: legend above, tools below.
  dress() {
    this.legend = new Legend(this);
    this.plot.before(this.legend.element);
    const tools = document.createElement("div");
    tools.className = "tools";
    const reset = button("Whole range", () => {
      Plotly.relayout(this.plot, Object.fromEntries(
        Object.keys(this.plot.layout).filter((k) => /^[xy]axis\d*$/.test(k))
          .map((k) => [k, { ...this.layout[k] }])));
      reset.hidden = true;
    });
    reset.hidden = true;
    this.plot.on("plotly_relayout", (change) => {
      if (Object.keys(change).some((k) => /range/.test(k)))
        reset.hidden = Object.keys(change).every((k) => !/\.range(\[|$)/.test(k));
    });
    tools.append(reset, button("Save as SVG", () =>
      Plotly.downloadImage(this.plot, { format: "svg", filename: this.plot.id, width: this.width, height: this.height })));
    const [opener, numbers] = numbersOf(this);
    tools.prepend(opener);
    this.plot.after(tools, numbers);
  }
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}
