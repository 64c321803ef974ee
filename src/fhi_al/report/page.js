// Draws the charts of the page, in the colours of the day or of the night.
(function () {
  "use strict";
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("page-data").textContent);
  const config = {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };

  function themed(layout) {
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(name).trim();
    const copy = structuredClone(layout);
    copy.paper_bgcolor = copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") };
    copy.hoverlabel = { bgcolor: color("--card"), bordercolor: color("--rule"), font: { color: color("--ink") } };
    copy.modebar = { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: color("--soft"), activecolor: color("--ink") };
    for (const note of copy.annotations) {
      note.bgcolor = color("--paper") + "c0"; // what lies below shines through
    }
    for (const name of Object.keys(copy)) {
      if (/^[xy]axis/.test(name)) {
        Object.assign(copy[name], {
          gridcolor: color("--grid"),
          linecolor: color("--soft"),
          tickcolor: color("--soft"),
          showline: true,
          zeroline: false,
          ticks: "outside",
          ticklen: 4,
        });
      }
    }
    return copy;
  }

  // The darkest colour of the charts is hard to see by night.
  const bright = { "#0072B2": "#3B9BDC" };

  function lit(data) {
    const dark = getComputedStyle(root).colorScheme === "dark";
    return JSON.parse(JSON.stringify(data), (_, value) => (dark && bright[value]) || value);
  }

  function draw() {
    for (const [name, chart] of Object.entries(charts)) {
      const options = Object.assign({ toImageButtonOptions: { filename: name, format: "svg" } }, config);
      Plotly.react("chart-" + name, lit(chart.data), themed(chart.layout), options);
    }
  }

  function turn(theme) {
    if (theme) {
      root.dataset.theme = theme;
    } else {
      delete root.dataset.theme;
    }
    draw();
  }

  const night = window.matchMedia("(prefers-color-scheme: dark)");
  night.addEventListener("change", draw);
  document.getElementById("page-theme").addEventListener("click", function () {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : night.matches;
    turn(dark ? "light" : "dark");
  });
  let before;
  window.addEventListener("beforeprint", function () {
    before = root.dataset.theme;
    turn("light");
  });
  window.addEventListener("afterprint", function () {
    turn(before);
  });
  // The address can ask for a theme, as in report.html#dark.
  if (/^#(dark|light)$/.test(location.hash)) {
    turn(location.hash.slice(1));
  } else {
    draw();
  }
})();
