// The pages' behaviour: theme, clock, charts, updates by server-sent events, acknowledging, copying.
"use strict";

const root = document.documentElement;
const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

// Theme: the system's, or the one that was chosen.
const kept = localStorage.getItem("theme");
if (kept) root.dataset.theme = kept;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  drawAll();
});

// Clock: the server's, carried on.
const utc = document.getElementById("utc");
const lst = document.getElementById("lst");
const loaded = performance.now();
const two = (number) => String(Math.floor(number)).padStart(2, "0");
function tick() {
  const passed = (performance.now() - loaded) / 1000;
  const now = new Date((Number(utc.dataset.at) + passed) * 1000);
  utc.textContent = `${now.toISOString().slice(11, 19)} UTC`;
  const hours = (Number(lst.dataset.lst) + passed * 1.0027379 / 3600) % 24;
  lst.textContent = `LST ${two(hours)}:${two((hours % 1) * 60)}`;
}
tick();
setInterval(tick, 1000);

// Charts.
const charts = new Map();
const lines = ["--accent-fill", "--good-fill", "--warn-fill", "--bad-fill"];
const dashes = [undefined, [10, 5], [3, 4], [12, 4, 3, 4]];
const borders = ["solid", "dashed", "dotted", "double"];
function draw(element) {
  const { x, series, unit } = JSON.parse(element.dataset.chart);
  const bars = uPlot.paths.bars({ size: [0.8, 60] });
  const axis = { stroke: style("--dim"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false }, font: "14px system-ui" };
  const options = {
    width: element.clientWidth,
    height: element.clientHeight - (series.length > 1 ? 34 : 0),
    legend: { show: series.length > 1, live: false, markers: { width: 3, dash: (_, number) => borders[(number - 1) % 4] } },
    cursor: { drag: { x: false, y: false } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
    axes: [
      { ...axis, values: x[x.length - 1] - x[0] > 200000 ? "{MMM} {D}" : "{HH}:{mm}", space: 70 },
      { ...axis, size: 70, values: (_, marks) => marks.map((mark) => (unit === "an hour" || !unit || unit.length > 3 ? String(mark) : `${mark} ${unit}`)) },
    ],
    series: [{}, ...series.map((one, number) => {
      const colour = style(lines[number % lines.length]);
      return {
        label: one.label, stroke: colour, width: 2.5, spanGaps: false, points: { show: x.length < 40 && one.kind !== "bars", size: 5 },
        dash: dashes[number % 4],
        fill: one.kind === "area" ? `${colour}44` : one.kind === "bars" ? colour : undefined,
        paths: one.kind === "bars" ? bars : undefined,
      };
    })],
  };
  charts.get(element)?.destroy();
  charts.set(element, new uPlot(options, [x, ...series.map((one) => one.values)], element));
}
function drawAll() {
  for (const [element, chart] of charts) {
    if (!element.isConnected) { chart.destroy(); charts.delete(element); }
  }
  document.querySelectorAll(".chart").forEach(draw);
}
drawAll();
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAll, 150); });

// Updates: sections as they change.
const page = document.body.dataset.live;
const stale = document.getElementById("stale");
let heard = Date.now();
if (page) {
  const events = new EventSource(`/events?page=${page}`);
  events.addEventListener("message", (message) => {
    heard = Date.now();
    stale.hidden = true;
    const changed = Object.entries(JSON.parse(message.data));
    for (const [id, html] of changed) {
      const section = document.getElementById(id);
      if (section && !section.contains(document.activeElement)) section.innerHTML = html;
      section?.querySelectorAll(".chart").forEach(draw);
    }
  });
  setInterval(() => {
    const silent = (Date.now() - heard) / 1000;
    if (silent > 30) {
      stale.textContent = `✘ No news for ${Math.round(silent / 10) * 10} s: the service does not answer. All below is old.`;
      stale.hidden = false;
    }
  }, 5000);
}

// Acknowledging, and copying a command.
const dialog = document.getElementById("acknowledge");
const form = dialog.querySelector("form");
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.acknowledge) {
    dialog.dataset.alert = button.dataset.acknowledge;
    document.getElementById("acknowledge-text").textContent = button.dataset.text;
    form.elements.by.value = sessionStorage.getItem("by") ?? "";
    form.elements.token.value = sessionStorage.getItem("token") ?? "";
    form.querySelector(".error").textContent = "";
    dialog.showModal();
  } else if (button?.value === "cancel") {
    dialog.close();
  } else if (button?.dataset.copy) {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  }
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { by, token, false_alarm: wrong } = form.elements;
  const answer = await fetch(`/api/alerts/${dialog.dataset.alert}/acknowledge`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token.value}` },
    body: JSON.stringify({ by: by.value, false_alarm: wrong.checked }),
  });
  if (answer.ok) {
    sessionStorage.setItem("by", by.value);
    sessionStorage.setItem("token", token.value);
    dialog.close();
    document.activeElement?.blur();
  } else {
    form.querySelector(".error").textContent = (await answer.json()).detail;
  }
});
