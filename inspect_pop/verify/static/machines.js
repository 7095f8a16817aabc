// The page of the inspection machines: their states, and a control chart of each figure of the one that is chosen.
import { begin, find, makeCell, run } from "./learn.js";
import { draw } from "./map.js";
import { get } from "./net.js";
import { name, say, showTime } from "./words.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, EDGE] = [360, 130, 34, 6, 8];
const SIGNS = { drifting: "!", unfamiliar: "?", qualified: "✓", known: "✓", unwatched: "–" };
const LOOKS = { drifting: "fail", unfamiliar: "review", qualified: "pass", known: "pass", unwatched: "review" };
let chosen = null;

const percent = (share) => (share === null || !Number.isFinite(share) ? "–" : `${(100 * share).toFixed(1)}\u00a0%`);
const short = (value) => Number(value.toPrecision(3)).toString();

function describe(machine) {
  if (machine.state === "drifting") {
    return machine.drifts.map((drift) => say("machines.drift", {
      figure: name("figure", drift.figure), latest: short(drift.latest), usual: short(drift.usual), sigma: drift.average.toFixed(1),
    })).join("; ");
  }
  if (machine.state === "unfamiliar") return machine.why;
  return say(`machines.why_${machine.state}`);
}

function describeQualification(machine) {
  const attempt = machine.last_attempt;
  if (attempt === null) return say("machines.never");
  const key = machine.qualified ? "machines.held" : attempt.passed ? "machines.other" : "machines.failed";
  return say(key, { who: attempt.by, when: showTime(attempt.at), n: attempt.boards.length });
}

function makeRow(machine) {
  const row = document.createElement("tr");
  const open = document.createElement("button");
  open.textContent = machine.machine;
  open.addEventListener("click", run(async () => {
    chosen = machine.machine;
    await showCharts();
    find("charts-title").focus();
  }));
  const button = document.createElement("td");
  button.append(open);
  const state = document.createElement("td");
  const verdict = Object.assign(document.createElement("span"), { className: "verdict" });
  const sign = Object.assign(document.createElement("span"), { className: `sign ${LOOKS[machine.state]}`, textContent: SIGNS[machine.state] });
  sign.setAttribute("aria-hidden", "true");
  verdict.append(sign, name("machine_state", machine.state));
  state.append(verdict);
  const why = Object.assign(makeCell(describe(machine)), { className: "long" });
  const held = Object.assign(makeCell(describeQualification(machine)), { className: "long" });
  row.append(
    button, state, makeCell(showTime(machine.since)), why, makeCell(machine.boards),
    makeCell(percent(machine.review_share)), makeCell(percent(machine.unfamiliar_share)), held,
  );
  return row;
}

function makeChart(chart, serials) {
  const figure = Object.assign(document.createElement("figure"), { className: "chart" });
  figure.dataset.drifts = chart.drifting_since !== null;
  const caption = document.createElement("figcaption");
  const known = chart.value.map((value, at) => [at, value]).filter(([, value]) => value !== null);
  const last = known.length ? known.at(-1)[1] : null;
  const words = name("figure", chart.figure);
  const usual = chart.usual === null ? "" : say("machines.usual", { usual: short(chart.usual), sigma: short(chart.sigma) });
  const since = chart.drifting_since ? say("machines.drifts_since", { serial: chart.drifting_since }) : "";
  const title = Object.assign(document.createElement("b"), { textContent: words });
  caption.append(title, ` ${last === null ? "–" : short(last)}${usual ? `; ${usual}` : ""} ${since}`);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${words}: ${say("machines.chart")} ${since}` });
  const points = chart.average.map((value, at) => [at, value]).filter(([, value]) => value !== null);
  if (points.length) drawAverage(svg, chart, points, serials);
  figure.append(caption, svg);
  return figure;
}

function drawAverage(svg, chart, points, serials) {
  const limits = chart.limit.filter((value) => value !== null);
  const top = 1.15 * Math.max(...limits, ...points.map(([, value]) => Math.abs(value)));
  const x = (at) => LEFT + (at / Math.max(chart.average.length - 1, 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => EDGE + ((top - value) / (2 * top)) * (HEIGHT - 2 * EDGE);
  const line = (values) => values.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const bound = points.map(([at]) => [at, chart.limit[at]]);
  for (const sign of [1, -1]) {
    const shown = bound.map(([at, value]) => [at, sign * value]);
    draw("polyline", { points: line(shown), fill: "none", stroke: "#8a1c00", "stroke-width": 1.5, "stroke-dasharray": "5 3" }, svg);
    const number = draw("text", { x: LEFT - 3, y: y(sign * limits.at(-1)) + 4, "font-size": 11, "text-anchor": "end", fill: "#8a1c00" }, svg);
    number.textContent = `${sign > 0 ? "+" : "−"}${limits.at(-1).toFixed(1)}`;
  }
  draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0), stroke: "#7b8a97" }, svg);
  const zero = draw("text", { x: LEFT - 3, y: y(0) + 4, "font-size": 11, "text-anchor": "end", fill: "#16202a" }, svg);
  zero.textContent = "0";
  const edge = x(points[0][0]);
  if (edge > LEFT + 4) draw("rect", { x: LEFT, y: EDGE, width: edge - LEFT, height: HEIGHT - 2 * EDGE, fill: "#eef2f5" }, svg);
  draw("polyline", { points: line(points), fill: "none", stroke: "#0b5394", "stroke-width": 2 }, svg);
  const [at, value] = points.at(-1);
  const mark = draw("circle", { cx: x(at), cy: y(value), r: 3.5, fill: "#0b5394" }, svg);
  draw("title", {}, mark).textContent = `${serials[at].serial}, ${showTime(serials[at].inspected_at)}: ${value.toFixed(2)} σ`;
}

async function showCharts() {
  const body = await get(`/v1/machines/charts?name=${encodeURIComponent(chosen)}`);
  find("charts-section").hidden = false;
  find("charts-title").textContent = say("machines.of", { machine: chosen });
  find("charts-note").textContent = body.charts.some((chart) => chart.points) ? "" : say("machines.too_few");
  find("charts").replaceChildren(...body.charts.map((chart) => makeChart(chart, body.of)));
}

async function show() {
  const { machines } = await get("/v1/machines");
  find("count").textContent = machines.length ? say("machines.count", { n: machines.length }) : say("machines.none");
  find("rows").replaceChildren(...machines.map(makeRow));
  if (chosen === null && machines.length) chosen = machines[0].machine;
  if (chosen !== null) await showCharts();
}

await begin(show);
