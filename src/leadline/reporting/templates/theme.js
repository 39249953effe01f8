"use strict";
// Colours of figures: the page's own, so that figures and text change together.
const wantsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => wantsDark.matches && !document.documentElement.classList.contains("printing");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function template() {
  const text = css("--text"), muted = css("--muted"), axis = {
    automargin: true, gridcolor: css("--grid"), linecolor: css("--axis"), showline: true,
    tickcolor: css("--axis"), tickfont: { color: muted, size: 12 }, ticklen: 4, ticks: "outside",
    title: { font: { color: muted, size: 13 }, standoff: 10 }, zeroline: false,
  };
  const bar = { outlinewidth: 0, tickfont: { color: muted }, title: { font: { color: muted } } };
  return {
    data: { heatmap: [{ colorbar: bar }], contour: [{ colorbar: bar }] },
    layout: {
      annotationdefaults: { font: { color: text, size: 13 } },
      coloraxis: { colorbar: bar },
      colorway: isDark()
        ? ["#5aa9e6", "#f2874b", "#3ec197", "#d9a0d0", "#e3b341", "#9fb0c3"]
        : ["#0b62a8", "#c4500a", "#0a7f5b", "#9b4f8f", "#9a6b00", "#5b6570"],
      font: { color: text, family: getComputedStyle(document.body).fontFamily, size: 13 },
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--axis"), font: { color: text } },
      margin: { b: 52, l: 58, pad: 0, r: 14, t: 16 },
      // Opaque, so that a saved picture carries the ground its colours are made for.
      paper_bgcolor: css("--ground"), plot_bgcolor: css("--ground"),
      xaxis: axis, yaxis: axis,
    },
  };
}

// A copy with every colour exchanged for its counterpart on a dark page.
function recoloured(x, map, key = "") {
  if (typeof x === "string") {
    const wanted = key === "colorscale" ? map["scale:" + x] : /color$/.test(key) ? map[x] : undefined;
    return wanted ?? x;
  }
  if (Array.isArray(x)) {
    const numbers = typeof x[0] === "number" && key !== "colorscale";
    return numbers ? x : x.map((v) => recoloured(v, map, key));
  }
  if (x === null || typeof x !== "object") return x;
  return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, recoloured(v, map, k)]));
}
