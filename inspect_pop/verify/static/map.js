// The map of an interface: where the joint is, which joints are to be judged, which are judged. Shape and letter say what colour says.
import { keyOf } from "./board.js";
import { name, say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
let looks = new Map();

export async function loadLooks() {
  const reply = await fetch("/verify/looks.json");
  looks = new Map((await reply.json()).map((look) => [look.name, look]));
}

export const defects = () => [...looks.keys()].filter((key) => key !== "good" && key !== "undecided");

export function draw(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

// The mark of a class, for lists and buttons.
export function makeMark(label) {
  const svg = draw("svg", { viewBox: "-15 -15 30 30", "aria-hidden": "true" });
  addMark(svg, label);
  return svg;
}

function addMark(parent, label, transform = "") {
  const look = looks.get(label) ?? looks.get("undecided");
  const group = draw("g", { transform }, parent);
  draw("path", { d: look.outline, fill: look.colour, stroke: "#16202a", "stroke-width": 1.5 }, group);
  const letter = draw("text", { fill: look.letter_colour, "font-size": 13, "text-anchor": "middle", "dominant-baseline": "central" }, group);
  letter.textContent = look.letter;
  return group;
}

export class BallMap {
  constructor(box, board, show) {
    this.box = box;
    this.board = board;
    this.show = show;
    this.part = null;
  }

  // Draws the part that holds the joint, if another one is drawn, and rings the joint.
  update(key) {
    const joint = this.board.joints.get(key);
    const part = `${joint.refdes}.${joint.interface}`;
    if (part !== this.part) this.drawPart(part, joint);
    this.marks.replaceChildren();
    for (const task of this.board.tasks) {
      for (const member of task.joints) if (this.places.has(member)) this.drawTask(member, task);
    }
    this.moveRing(key);
    this.cursor.setAttribute("visibility", "hidden");
    this.at = key;
  }

  drawPart(part, joint) {
    this.part = part;
    const members = this.board.about.joints.filter((other) => `${other.refdes}.${other.interface}` === part);
    const [xs, ys] = [members.map((other) => other.x_um), members.map((other) => -other.y_um)];
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const span = Math.max(Math.max(...xs) - left, Math.max(...ys) - top, 1);
    const pitch = findPitch(members) || span / 10;
    const scale = 30 / pitch;
    this.places = new Map(members.map((other, k) => [keyOf(other), [(xs[k] - left) * scale, (ys[k] - top) * scale]]));
    const [width, height] = [(Math.max(...xs) - left) * scale + 50, (Math.max(...ys) - top) * scale + 50];
    const words = `${joint.refdes} ${name("interface", joint.interface)}`;
    const svg = draw("svg", { viewBox: `-25 -25 ${width} ${height}`, tabindex: 0, role: "application", "aria-label": say("board.map_help", { part: words }) });
    for (const [key, [x, y]] of this.places) {
      const dot = draw("circle", { class: "joint", cx: x, cy: y, r: 8, "data-joint": key }, svg);
      draw("title", {}, dot).textContent = key;
    }
    this.marks = draw("g", {}, svg);
    this.ring = draw("circle", { class: "ring", r: 21, "stroke-width": 5 }, svg);
    this.cursor = draw("circle", { class: "cursor", r: 17, "stroke-width": 3, visibility: "hidden" }, svg);
    svg.addEventListener("click", (event) => this.click(svg, event));
    svg.addEventListener("keydown", (event) => this.move(svg, event));
    this.box.replaceChildren(svg);
  }

  drawTask(key, task) {
    const joint = this.board.joints.get(key);
    const [x, y] = this.places.get(key);
    const label = joint.role === "sample" ? "good" : joint.label ?? "undecided";
    const mark = addMark(this.marks, label === "good" && joint.verdict !== "pass" ? "undecided" : label, `translate(${x} ${y})`);
    mark.setAttribute("class", "mark");
    mark.dataset.joint = key;
    if (this.board.isDone(task)) draw("path", { class: "judged", d: "M4 4l5 6 9 -13", "stroke-width": 5 }, mark);
    else if (joint.role === "sample") draw("circle", { r: 13, fill: "none", stroke: "#16202a", "stroke-width": 2, "stroke-dasharray": "4 3" }, mark);
  }

  moveRing(key) {
    const [x, y] = this.places.get(key);
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
  }

  // The joint nearest to where a finger or the mouse came down.
  click(svg, event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = null;
    let least = 40;
    for (const [key, [x, y]] of this.places) {
      const far = Math.hypot(x - point.x, y - point.y);
      if (far < least) [best, least] = [key, far];
    }
    if (best) this.show(best);
  }

  move(svg, event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") this.show(this.at);
    if (!step && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    if (!step) return;
    const [x, y] = this.places.get(this.at);
    let [best, least] = [null, Infinity];
    for (const [key, [u, v]] of this.places) {
      const along = (u - x) * step[0] + (v - y) * step[1];
      const aside = Math.abs((u - x) * step[1]) + Math.abs((v - y) * step[0]);
      if (along > 1 && along + 3 * aside < least) [best, least] = [key, along + 3 * aside];
    }
    if (!best) return;
    this.at = best;
    const [u, v] = this.places.get(best);
    this.cursor.setAttribute("cx", u);
    this.cursor.setAttribute("cy", v);
    this.cursor.setAttribute("visibility", "visible");
    svg.setAttribute("aria-label", best);
  }

  focus() {
    this.box.firstElementChild?.focus();
  }
}

function findPitch(members) {
  let least = Infinity;
  for (const other of members.slice(1)) {
    const far = Math.hypot(other.x_um - members[0].x_um, other.y_um - members[0].y_um);
    if (far > 1) least = Math.min(least, far);
  }
  return Number.isFinite(least) ? least : 0;
}
