// A joint's figures among its neighbours', its limits, doubts and decisions.
import { draw } from "./map.js";
import { name, say, showNumber, showTime } from "./words.js";

const find = (id) => document.getElementById(id);
const item = (text, className = "") => Object.assign(document.createElement("li"), { textContent: text, className });

export function showFigures(board, key) {
  const values = board.about.measured[key] ?? {};
  const neighbours = board.about.neighbours[key] ?? {};
  const rows = board.about.columns.filter((column) => Number.isFinite(values[column.name]));
  find("figures").replaceChildren(...rows.map((column) => makeStrip(column, values[column.name], neighbours[column.name])));
  if (!rows.length) find("figures").append(item(say("joint.not_measured")));
}

function makeStrip(column, value, range) {
  const words = name("column", column.name);
  const { unit } = column;
  const row = document.createElement("li");
  const number = Object.assign(document.createElement("b"), { textContent: `${showNumber(value, unit)} ${unit}` });
  const svg = draw("svg", { viewBox: "0 0 200 18", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (range && range.every(Number.isFinite)) {
    const [low, median, high] = range;
    const isOutside = value < low || value > high;
    if (isOutside) {
      row.className = "outside";
      number.prepend(value < low ? "▼ " : "▲ ");
      number.title = say("joint.outside");
    }
    drawStrip(svg, value, low, median, high);
    const shown = [value, low, median, high].map((number) => showNumber(number, unit));
    const label = say("joint.figure", { words, value: shown[0], low: shown[1], median: shown[2], high: shown[3], unit });
    row.title = label;
  }
  row.append(Object.assign(document.createElement("span"), { textContent: words }), svg, number);
  return row;
}

function drawStrip(svg, value, low, median, high) {
  const [first, last] = [Math.min(low, value), Math.max(high, value)];
  const room = (last - first) * 0.08 || 1;
  const place = (at) => ((at - first + room) / (last - first + 2 * room)) * 200;
  draw("line", { x1: 0, x2: 200, y1: 9, y2: 9, stroke: "#c8d1d8" }, svg);
  draw("rect", { x: place(low), y: 5, width: Math.max(place(high) - place(low), 2), height: 8, fill: "#9fb4c4" }, svg);
  draw("line", { x1: place(median), x2: place(median), y1: 3, y2: 15, stroke: "#16202a", "stroke-width": 2 }, svg);
  const isOutside = value < low || value > high;
  draw("path", { d: `M${place(value) - 5} 9l5 -8l5 8l-5 8z`, fill: isOutside ? "#8a1c00" : "#0b5394", stroke: "#ffffff" }, svg);
}

export function showReasons(joint) {
  find("reason").textContent = joint.reason || "–";
  const criteria = joint.criteria.map((criterion) => item(name("criterion", criterion)));
  find("criteria").replaceChildren(...(criteria.length ? criteria : [item(say("joint.no_criteria"), "none")]));
  find("flags").replaceChildren(...joint.flags.map((flag) => item(name("flag", flag))));
  find("flags-title").hidden = !joint.flags.length;
}

export function describeDecision(decision) {
  const label = decision.label && decision.label !== "good" ? ` (${name("class", decision.label)})` : "";
  return `${name("state", decision.state)}${label}`;
}

export function showDecisions(board, key) {
  const decisions = board.decisions.get(key) ?? [];
  find("decisions").replaceChildren(...decisions.map((decision) => {
    const who = `${decision.decided_by}, ${name("stage", decision.stage)}, ${showTime(decision.decided_at)}`;
    return item([describeDecision(decision), who, decision.note].filter(Boolean).join(" · "));
  }));
  if (!decisions.length) find("decisions").append(item(say("board.no_decision")));
}
