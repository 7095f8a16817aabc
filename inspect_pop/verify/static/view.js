// What is shown of one joint: its pictures beside a good neighbour's and the golden board's, and all that is known of it.
import { keyOf } from "./board.js";
import { describeDecision, showDecisions, showFigures, showReasons } from "./figures.js";
import { makeMark } from "./map.js";
import { loadWindow, me } from "./net.js";
import { changeGrey, clear, drawHeights, drawSlice, grey, resetGrey } from "./picture.js";
import { name, say, showNumber, showTime } from "./words.js";

const find = (id) => document.getElementById(id);
const PANES = ["this", "reference", "golden"];
const shown = { board: null, key: null, task: null, slice: null, windows: {} };

function listWindows(board, key) {
  const joint = board.joints.get(key);
  const golden = board.about.golden;
  return {
    this: loadWindow(board.about.record, key),
    reference: joint.reference ? loadWindow(board.about.record, joint.reference) : null,
    golden: golden && golden.record !== board.about.record ? loadWindow(golden.record, key) : null,
  };
}

export function prefetch(board, tasks) {
  for (const task of tasks) if (task) listWindows(board, task.joints[0]);
}

// Shows a joint at once where its pictures are there, else as they come. Returns when this joint's own is drawn.
export async function showJoint(board, task, key) {
  Object.assign(shown, { board, task, key, windows: listWindows(board, key) });
  grey.first = null;
  describe();
  drawAll();
  const waiting = Object.values(shown.windows).filter((entry) => entry && !entry.value && !entry.fault);
  await Promise.all(waiting.map((entry) => entry.ready.then(() => { if (shown.key === key && shown.board === board) drawAll(); })));
}

function describe() {
  const { board, task, key } = shown;
  const joint = board.joints.get(key);
  const label = joint.verdict === "pass" ? "good" : joint.label ?? "undecided";
  const words = label === "undecided" ? name("class", "none") : name("class", label);
  const certainty = Number.isFinite(joint.confidence) ? say("joint.certainty", { percent: Math.round(100 * joint.confidence) }) : "";
  const role = joint.role === "sample" ? say("joint.sample") : joint.role === "reference" ? say("joint.reference_role") : "";
  const title = `${joint.refdes} ${name("interface", joint.interface)} ${joint.ball}`;
  const facts = [name("verdict", joint.verdict), words, certainty, role].filter(Boolean).join(" · ");
  find("joint-title").replaceChildren(makeMark(joint.verdict === "review" && label === "good" ? "undecided" : label), `${title} — ${facts}`);
  const isGroup = task && task.joints.length > 1;
  find("group-line").hidden = !isGroup;
  if (isGroup) showGroup(task, key);
  showState();
  showFigures(board, key);
  showReasons(joint);
}

function showGroup(task, key) {
  const joints = task.joints.map((member) => member.split(".").slice(1).join(" ")).join(", ");
  const words = say("joint.group", { n: task.joints.length, joints });
  find("group-line").textContent = `${name("group", task.group.kind)} — ${words}`;
  find("group-line").dataset.joint = key;
}

export function showState() {
  const { board, key } = shown;
  const current = board.current(key);
  const state = find("joint-state");
  state.className = current ? "judged" : "";
  state.textContent = current
    ? say("joint.judged", { state: describeDecision(current), name: current.decided_by, time: showTime(current.decided_at) })
    : say("joint.not_judged");
  showDecisions(board, key);
}

function drawAll() {
  const own = shown.windows.this.value;
  if (own && !grey.first) {
    resetGrey(own);
    if (shown.slice === null || shown.slice >= own.about.shape[0]) shown.slice = Math.floor(own.about.shape[0] / 2);
  }
  for (const pane of PANES) drawPane(pane);
  showLines();
}

function drawPane(pane) {
  const { board, key, windows } = shown;
  const canvas = find(`picture-${pane}`);
  const caption = find(`caption-${pane}`);
  const entry = windows[pane];
  const other = pane === "reference" ? board.joints.get(key).reference : key;
  if (!entry) {
    clear(canvas);
    const missing = pane === "golden" && !board.about.golden ? "board.no_golden" : `joint.no_${pane}`;
    caption.textContent = pane === "golden" && board.about.golden ? say("joint.no_golden") : say(missing);
  } else if (entry.value && grey.first) {
    drawSlice(canvas, entry.value, shown.slice);
    const again = entry.value.about.kept ? "" : ` (${say("joint.cut_again")})`;
    const serial = pane === "golden" ? `, ${board.about.golden.serial}` : "";
    caption.textContent = say(`joint.${pane}`, { joint: other }) + serial + again;
  } else {
    clear(canvas);
    const reason = entry.fault?.message ?? "";
    caption.textContent = !entry.fault ? say("app.working") : pane === "golden" ? say("joint.no_golden") : say("joint.no_window", { reason });
  }
  canvas.setAttribute("aria-label", caption.textContent);
}

function showLines() {
  const own = shown.windows.this.value;
  find("viewing").hidden = !own;
  find("height-figure").hidden = !own?.heights;
  if (!own) return;
  const { about } = own;
  const lost = about.lost.includes(shown.slice) ? ` (${say("joint.lost")})` : "";
  find("slice-line").textContent = say("joint.slice", { k: shown.slice + 1, n: about.shape[0], z: showNumber(about.z_um[shown.slice], "µm") }) + lost;
  find("grey-line").textContent = say("joint.window", { low: grey.low.toFixed(0), high: grey.high.toFixed(0) });
  const range = drawHeights(find("height-picture"), own);
  if (!range) return;
  const [low, high] = range.map((value) => showNumber(value, "µm"));
  const text = say("joint.heights", { stage: say(`joint.${about.heights.stage}`), low, high });
  find("height-caption").textContent = text;
  find("height-picture").setAttribute("aria-label", text);
}

export function moveSlice(step) {
  const own = shown.windows.this?.value;
  if (!own) return;
  shown.slice = Math.min(Math.max(shown.slice + step, 0), own.about.shape[0] - 1);
  drawAll();
}

const FINE = 0.04;
const COARSE = 0.2;
const GREY_STEPS = {
  darker: [FINE, 0], brighter: [-FINE, 0], softer: [0, FINE], harder: [0, -FINE],
  darker_coarse: [COARSE, 0], brighter_coarse: [-COARSE, 0], softer_coarse: [0, COARSE], harder_coarse: [0, -COARSE],
};

export function moveGrey(act) {
  if (!grey.first) return;
  changeGrey(...GREY_STEPS[act]);
  drawAll();
}

export function takeGreyBack() {
  if (grey.first) [grey.low, grey.high] = grey.first;
  drawAll();
}

export const isGreyAct = (act) => act in GREY_STEPS;

export function followPointer() {
  for (const pane of PANES) {
    const canvas = find(`picture-${pane}`);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      moveSlice(event.deltaY < 0 ? 1 : -1);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons || !grey.first) return;
      changeGrey(-event.movementX / 300, event.movementY / 150);
      drawAll();
    });
  }
  addEventListener("resize", () => { if (shown.board) drawAll(); });
}

export function shownKey() {
  return shown.key;
}

export function mayMakeGolden(board) {
  return me.rights.includes("train") && board.about.verdict === "pass" && board.about.golden?.record !== board.about.record;
}

export function listTasks(board, show) {
  find("tasks").replaceChildren(...board.tasks.map((task, k) => {
    const row = document.createElement("li");
    const button = document.createElement("button");
    const joint = board.joints.get(task.joints[0]);
    const title = `${joint.refdes} ${name("interface", joint.interface)} ${joint.ball}`;
    const label = joint.verdict === "pass" ? "good" : joint.label ?? "undecided";
    const state = Object.assign(document.createElement("span"), { className: "state" });
    button.append(makeMark(joint.verdict === "review" && label === "good" ? "undecided" : label), task.joints.length > 1 ? `${title} (${task.joints.length})` : title, state);
    button.addEventListener("click", () => show(k));
    row.append(button);
    return row;
  }));
  showTaskStates(board, -1);
}

export function showTaskStates(board, at) {
  [...find("tasks").children].forEach((row, k) => {
    const button = row.firstElementChild;
    const task = board.tasks[k];
    const joint = board.joints.get(task.joints[0]);
    button.classList.toggle("now", k === at);
    if (k === at) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const current = board.isDone(task) ? board.current(keyOf(joint)) : null;
    const idle = joint.role === "sample" ? say("queue.sample", { n: "" }).trim() : name("verdict", joint.verdict);
    button.lastElementChild.textContent = current ? `✓ ${describeDecision(current)}` : idle;
    if (k === at) find("tasks").scrollTop = row.offsetTop - find("tasks").offsetTop - row.offsetHeight;
  });
}
