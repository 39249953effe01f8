// Legends of buttons: they wrap, they are reached by keyboard, and they are read aloud. Panels whose
// curves are the same share one; otherwise each has its own, at its place in the grid.
class Legend {
  constructor(figure) {
    this.figure = figure;
    this.element = part("legend", "group", "Curves: each button shows or hides one");
    this.entries = [];
    const { data } = figure.given, panels = figure.given.panels.filter(({ entries }) => entries.length);
    const names = panels.map((panel) => panel.entries.map((i) => nameOf(data[i])).sort().join());
    const alike = names.every((name) => name === names[0]);
    this.element.classList.toggle("several", !alike);
    for (const panel of alike ? panels.slice(0, 1) : panels) {
      const block = alike ? this.element : this.block(panel);
      for (const i of panel.entries) this.add(i, block);
    }
    this.element.hidden = this.entries.length < 2;
  }

  block({ title, row, first, last }) {
    const block = part("panel", "group", `Curves of ${plain(title)}`), label = part("title");
    block.style.setProperty("--area", `${row} / ${first} / auto / ${last + 1}`);
    label.textContent = plain(title);
    label.setAttribute("aria-hidden", "true"); // The block is named by it.
    block.append(label);
    this.element.append(block);
    return block;
  }

  add(index, block) {
    const { data, one_by_one } = this.figure.given, trace = data[index];
    const group = trace.legendgroup, title = trace.legendgrouptitle?.text;
    const whole = group !== undefined && !one_by_one;
    const members = [...data.keys()].filter((i) =>
      whole ? data[i].legendgroup === group : nameOf(data[i]) === nameOf(trace));
    const entry = { index, members, key: document.createElementNS("http://www.w3.org/2000/svg", "svg") };
    entry.button = button("", () => this.toggle(entry));
    entry.button.append(entry.key, plain(trace.name));
    this.row(block, title ? group : undefined, title).append(entry.button);
    this.entries.push(entry);
  }

  // Groups with titles have rows of their own.
  row(block, group, title) {
    let row = [...block.children].find((r) => r.dataset.group === String(group));
    if (row) return row;
    row = part("row");
    row.dataset.group = String(group);
    if (title) {
      const label = part("of");
      label.textContent = plain(title);
      row.append(label);
    }
    block.append(row);
    return row;
  }

  toggle(entry) {
    const { hidden } = this.figure, hide = !hidden.has(entry.index);
    for (const i of entry.members) hide ? hidden.add(i) : hidden.delete(i);
    this.figure.draw();
  }

  refresh() {
    this.element.classList.toggle("wide", this.figure.layout === this.figure.given.wide);
    for (const entry of this.entries) {
      const shown = !this.figure.hidden.has(entry.index);
      entry.button.setAttribute("aria-pressed", String(shown));
      const trace = shown && this.figure.plot._fullData.find((t) => t.index === entry.index);
      if (trace) drawKey(entry.key, trace);
    }
  }
}

// Curves of one group and name are one.
const nameOf = (trace) => JSON.stringify([trace.legendgroup, trace.name]);

function part(kind, role, name) {
  const made = document.createElement("div");
  made.className = kind;
  if (role) made.setAttribute("role", role);
  if (name) made.setAttribute("aria-label", name);
  return made;
}

const DASHES = { dash: "5 3", dashdot: "5 3 1.5 3", dot: "1.5 3", longdash: "8 3", longdashdot: "8 3 1.5 3" };
const SHAPES = {
  circle: "M13,1.5a3.5,3.5 0 1 0 .01,0Z", cross: "M11.5,1h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5Z",
  diamond: "M13,0.5L17.5,5L13,9.5L8.5,5Z", square: "M9.5,1.5h7v7h-7Z", "triangle-up": "M13,1L17,8.5H9Z",
  "triangle-down": "M13,9L17,1.5H9Z",
  star: "M13,0.5L14.2,3.8L17.5,3.8L14.9,5.9L15.9,9.2L13,7.2L10.1,9.2L11.1,5.9L8.5,3.8L11.8,3.8Z",
  x: "M10.5,1L13,3.5L15.5,1L17,2.5L14.5,5L17,7.5L15.5,9L13,6.5L10.5,9L9,7.5L11.5,5L9,2.5Z",
};

// A trace's line and symbol, 26 by 10.
function drawKey(svg, trace) {
  const [symbol, open] = String(trace.marker?.symbol ?? "circle").split(/-(open)$/);
  const first = (c) => (Array.isArray(c) ? c[0] : c);
  const colour = first(trace.marker?.color), mode = trace.mode ?? "markers", ns = svg.namespaceURI;
  svg.setAttribute("viewBox", "0 0 26 10");
  svg.setAttribute("width", 26);
  svg.setAttribute("height", 10);
  svg.setAttribute("aria-hidden", "true");
  svg.replaceChildren();
  if (mode.includes("lines")) {
    const line = document.createElementNS(ns, "path");
    line.setAttribute("d", "M0,5H26");
    line.setAttribute("stroke", trace.line.color);
    line.setAttribute("stroke-width", Math.min(Math.max(trace.line.width, 1.5), 3));
    line.setAttribute("stroke-dasharray", DASHES[trace.line.dash] ?? "none");
    svg.append(line);
  }
  if (mode.includes("markers")) {
    const mark = document.createElementNS(ns, "path");
    mark.setAttribute("d", SHAPES[symbol] ?? SHAPES.circle);
    mark.setAttribute("fill", open ? css("--ground") : typeof colour === "string" ? colour : css("--muted"));
    mark.setAttribute("stroke", typeof colour === "string" ? colour : css("--muted"));
    svg.append(mark);
  }
}

// Names reach plotly escaped; the page's own elements take them as they were.
const plain = (text) => String(text).replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
