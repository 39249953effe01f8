"use strict";
for (const source of document.querySelectorAll("script[data-for]")) {
  const { data, layout } = JSON.parse(source.textContent);
  Plotly.newPlot(source.dataset.for, data, layout, { responsive: true, displaylogo: false });
}
