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
    if (!region.firstChild) region.append(...numbersTable(figure));
  });
  opener.setAttribute("aria-expanded", "false");
  opener.setAttribute("aria-controls", region.id);
  return [opener, region];
}

function numbersTable(figure) {
  const rows = [];
  for (const trace of figure.plot._fullData) {
    if (trace.hoverinfo === "skip" || !trace.x || !trace.y || trace.z) continue;
    const name = [trace.legendgrouptitle?.text, trace.name].filter(Boolean).map(plain).join(", ");
    for (let i = 0; i < trace.x.length; i++) rows.push([name, trace.x[i], trace.y[i]]);
  }
  const axis = (letter) => plain(figure.layout[letter + "axis"]?.title?.text ?? letter);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const text of ["Curve", axis("x"), axis("y")]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, ...values] of rows.slice(0, MOST_ROWS)) {
    const row = body.insertRow(), cell = document.createElement("th");
    cell.scope = "row";
    cell.textContent = name;
    row.append(cell);
    for (const value of values) row.insertCell().textContent =
      typeof value === "number" ? String(Number(value.toPrecision(5))) : plain(value ?? "–");
  }
  const more = rows.length - MOST_ROWS;
  return more > 0 ? [table, `… and ${more} more rows`] : [table];
}
