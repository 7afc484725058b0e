// Draws each figure that the server computed, in the page's own colours. A click leads to the events behind a mark.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function themed(figure, height, narrow) {
  const ink = colour("--quiet"), line = colour("--line");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickfont: { color: ink, size: 11 }, automargin: true, fixedrange: true };
  const layout = {
    ...figure.layout,
    height,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: colour("--font"), size: 12 },
    colorway: Array.from({ length: 8 }, (_, n) => colour("--series-" + (n + 1))),
    legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, itemclick: "toggle" },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: line, font: { color: colour("--ink") } },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  };
  layout.margin = { ...figure.layout.margin, t: layout.showlegend === false ? 8 : narrow ? 44 : 28 };
  const data = figure.data.map((trace) => {
    const named = typeof trace.meta === "string" ? colour("--" + trace.meta) : "";
    const marker = { ...trace.marker, line: { width: 0 } };
    if (named) marker.color = named;
    return { ...trace, marker };
  });
  return { data, layout };
}

function draw(box) {
  const figure = JSON.parse(document.getElementById(box.dataset.chart).textContent);
  const { data, layout } = themed(figure, Number(box.dataset.height), box.clientWidth < 480);
  const scheme = dark.matches ? "dark" : "light";
  return Plotly.react(box, data, layout, { displayModeBar: false, responsive: true, displaylogo: false }).then(() => {
    const isFirst = !box.dataset.drawn;
    box.dataset.drawn = scheme;
    if (!isFirst) return;
    box.on("plotly_click", (event) => {
      const href = event.points[0] && event.points[0].customdata;
      if (typeof href === "string" && /^\/(?!\/)/.test(href)) window.location.assign(href);
    });
  });
}

document.addEventListener("DOMContentLoaded", () => {
  if (typeof Plotly === "undefined") return;
  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  drawAll();
  document.addEventListener("htmx:afterSettle", drawAll);  // another filter brings other figures
  dark.addEventListener("change", drawAll);
});
