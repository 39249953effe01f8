// The numbers a figure shows, as a table that is built when it is opened.
const MOST_ROWS = 1000;

function numbersOf(figure) {
  const region = document.createElement("div");
  region.id = figure.plot.id + "-numbers";
  region.className = "numbers scroll";
  region.tabIndex = 0;
  region.hidden = true;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", "Numbers of the figure");
  const opener = button("Numbers", () => {
    region.hidden = !region.hidden;
    opener.setAttribute("aria-expanded", String(!region.hidden));
    if (!region.firstChild) region.append(...numbersTables(figure));
  });
  opener.setAttribute("aria-expanded", "false");
  opener.setAttribute("aria-controls", region.id);
  return [opener, region];
}

// A table for each panel that has curves.
function numbersTables(figure) {
  const out = [];
  let rows = 0;
  const panels = figure.given.panels.map((panel) => [panel, panelRows(figure, panel)]).filter(([, r]) => r.length);
  for (const [panel, all] of panels) {
    const room = Math.max(MOST_ROWS - rows, 0);
    rows += all.length;
    if (room) out.push(numbersTable(panel, all.slice(0, room), panels.length > 1));
  }
  return rows > MOST_ROWS ? [...out, `… and ${rows - MOST_ROWS} more rows`] : out;
}

function panelRows(figure, panel) {
  const rows = [];
  for (const trace of figure.plot._fullData) {
    if (!panel.curves.includes(trace.index)) continue;
    if (trace.hoverinfo === "skip" || !trace.x || !trace.y || trace.z) continue;
    const name = [trace.legendgrouptitle?.text, trace.name].filter(Boolean).map(plain).join(", ");
    for (let i = 0; i < trace.x.length; i++) rows.push([name, trace.x[i], trace.y[i]]);
  }
  return rows;
}

function numbersTable(panel, rows, several) {
  const table = document.createElement("table");
  if (several) table.createCaption().textContent = plain(panel.title);
  const head = table.createTHead().insertRow();
  for (const text of ["Curve", ...panel.axes.map(plain)]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, ...values] of rows) {
    const row = body.insertRow(), cell = document.createElement("th");
    cell.scope = "row";
    cell.textContent = name;
    row.append(cell);
    for (const value of values) row.insertCell().textContent =
      typeof value === "number" ? String(Number(value.toPrecision(5))) : plain(value ?? "–");
  }
  return table;
}
