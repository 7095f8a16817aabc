// The page: which board and joint is shown, what keys and buttons do.
import { keyOf, loadBoard } from "./board.js";
import { findAct, resetKeys, showKey, showKeys } from "./keys.js";
import { BallMap, defects, loadLooks, makeMark } from "./map.js";
import { loadMe, logOut, me, Refusal, send } from "./net.js";
import { askQueue, makeVerdict, moveFocus, showQueue, turnPage } from "./queue.js";
import * as view from "./view.js";
import { describeDecision } from "./figures.js";
import { language, loadWords, name, say, showTime } from "./words.js";

const SCAN_MS = 35; // a scanner types faster than any finger; a key waits so long before it decides
const AHEAD = 4;
const DECIDING = ["good", "repaired", "accepted", "closed"];
const REPAIR_ONLY = ["repaired", "accepted", "closed"];
const find = (id) => document.getElementById(id);

let board = null;
let map = null;
let at = -1; // which task is shown; -1: a joint that is none
let typed = null; // a key that waits, since a scanner may be typing
let isOpening = false; // whether the next joint that is shown is a board's first
let supersededSerial = null; // of the board that was inspected again meanwhile, while the page says so
let prepared = null; // the board that comes next, loaded while this one is finished

const isDeciding = (act) => DECIDING.includes(act) || act.startsWith("class_");

// Saying things

function notify(text, isBad = false) {
  find("notice").textContent = text;
  find("notice").className = isBad ? "bad" : "";
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { find("notice").textContent = ""; }, isBad ? 9000 : 2500);
}

function complain(error) {
  if (error instanceof Refusal && error.status === 401) {
    notify(say("app.logged_out"), true);
    location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  } else notify(say(error instanceof Refusal ? "app.refused" : "app.failed", { reason: error.message }), true);
}

// Going about

async function openQueue(isNew = true, text = "") {
  if (board) await board.sending;
  board = null;
  [find("queue").hidden, find("board").hidden] = [false, true];
  if (isNew) history.pushState(null, "", "/");
  find("search").focus();
  await showQueue(openBoard, text);
}

async function openBoard(record, isNew = true) {
  isOpening = true;
  board = (await takePrepared(record)) ?? (await loadBoard(record));
  [find("queue").hidden, find("board").hidden, find("done").hidden, find("looking").hidden] = [true, false, true, false];
  if (isNew) history.pushState(null, "", `/board/${encodeURIComponent(record)}`);
  const { about } = board;
  find("board-title").textContent = about.serial;
  find("board-facts").replaceChildren(makeVerdict(about.verdict), ` ${describeBoard(about)}`);
  find("make-golden").hidden = !view.mayMakeGolden(board);
  map = new BallMap(find("map"), board, showAny);
  showParts();
  view.listTasks(board, showTask);
  const first = board.tasks.findIndex((task) => !board.isDone(task));
  if (first >= 0) await showTask(first);
  else if (board.tasks.length) showDone();
  else await showAny(board.joints.keys().next().value);
}

function describeBoard(about) {
  const place = [about.line, about.station].filter(Boolean).join(" / ");
  return [about.product, place, showTime(about.inspected_at), name("cause", about.cause ?? "none")].filter(Boolean).join(" · ");
}

function showParts() {
  const parts = new Map();
  for (const joint of board.about.joints) {
    const part = `${joint.refdes}.${joint.interface}`;
    if (!parts.has(part)) parts.set(part, keyOf(joint));
  }
  find("map-parts").replaceChildren(...[...parts].map(([part, key]) => {
    const button = document.createElement("button");
    const joint = board.joints.get(key);
    button.textContent = `${joint.refdes} ${name("interface", joint.interface)}`;
    button.dataset.part = part;
    button.addEventListener("click", () => {
      const task = board.tasks.find((other) => other.joints[0].startsWith(`${part}.`));
      showAny(task ? task.joints[0] : key);
    });
    return button;
  }));
}

async function showTask(index) {
  at = index;
  const task = board.tasks[index];
  await show(task, task.joints[0]);
}

// Shows any joint: as its task, where it belongs to one.
function showAny(key) {
  at = board.tasks.findIndex((task) => task.joints.includes(key));
  return show(at >= 0 ? board.tasks[at] : { joints: [key], group: null }, key);
}

async function show(task, key) {
  performance.mark("start");
  [find("done").hidden, find("looking").hidden] = [true, false];
  const drawn = view.showJoint(board, task, key);
  map.update(key);
  for (const button of find("map-parts").children) button.setAttribute("aria-pressed", String(key.startsWith(`${button.dataset.part}.`)));
  showProgress();
  find("joint-title").focus({ preventScroll: true });
  await drawn;
  const measured = isOpening ? "board" : "joint";
  isOpening = false;
  requestAnimationFrame(() => performance.measure(measured, "start"));
  if (at >= 0) view.prefetch(board, [...board.tasks.slice(at + 1, at + 1 + AHEAD), board.tasks[at - 1]]);
}

function showProgress() {
  const done = board.tasks.filter((task) => board.isDone(task)).length;
  find("progress").textContent = say("board.progress", { done, all: board.tasks.length });
  view.showTaskStates(board, at);
}

// Loads the board that comes after this one, and its first pictures, when all of this one's decisions are in the store.
async function prepareNext(here) {
  await here.sending;
  const found = await askQueue(2);
  const next = found.boards.find((other) => other.record !== here.about.record);
  if (!next) return null;
  const loaded = await loadBoard(next.record);
  view.prefetch(loaded, loaded.tasks.slice(0, AHEAD));
  return loaded;
}

async function takePrepared(record) {
  const loaded = await prepared;
  prepared = null;
  return loaded?.about.record === record ? loaded : null;
}

function showDone() {
  [find("done").hidden, find("looking").hidden] = [false, true];
  at = board.tasks.length;
  map.update(board.tasks[0].joints[0]);
  showProgress();
  prepared = prepareNext(board).catch(() => null);
  find("done-title").focus({ preventScroll: true });
}

async function openNextBoard() {
  prepared ??= prepareNext(board);
  const loaded = await prepared;
  if (loaded) await openBoard(loaded.about.record);
  else await openQueue();
}

// Goes to the next task that is left; to the end of the board where none is.
function goOn() {
  const left = board.tasks.map((task, k) => k).filter((k) => !board.isDone(board.tasks[k]));
  const next = left.find((k) => k > at) ?? left[0];
  return next === undefined ? showDone() : showTask(next);
}

function step(by) {
  if (by > 0 && at >= board.tasks.length - 1) return showDone();
  return showTask(Math.min(Math.max(at + by, 0), board.tasks.length - 1));
}

// Deciding

function decide(choice) {
  if (!me.rights.includes("verify")) return notify(say("act.not_allowed"), true);
  if (REPAIR_ONLY.includes(choice) && me.stage !== "repair") return undefined;
  const joints = at >= 0 && at < board.tasks.length ? board.tasks[at].joints : [view.shownKey()];
  const isExtra = at < 0;
  if (isExtra && choice === "good" && board.joints.get(joints[0]).verdict === "pass") return notify(say("act.already_fine"));
  const here = board;
  here.decide(joints, choice, find("note").value.trim()).catch((refusal) => meetRefusal(here, joints, refusal));
  find("note").value = "";
  const what = describeDecision(here.current(joints[0]));
  notify(joints.length > 1 ? say("act.recorded_group", { n: joints.length, what }) : say("act.recorded", { joint: joints[0], what }));
  if (isExtra) return show({ joints, group: null }, joints[0]);
  return goOn();
}

function undo() {
  const here = board;
  const undone = here.undo();
  if (!undone) return notify(say("act.nothing_to_undo"));
  undone.written.catch((refusal) => meetRefusal(here, undone.joints, refusal));
  notify(say("act.undone", { joint: undone.joints.join(", ") }));
  return showAny(undone.joints[0]);
}

function meetRefusal(here, joints, refusal) {
  if (!(refusal instanceof Refusal) || refusal.status !== 409) {
    complain(refusal);
    if (here === board) showAny(joints[0]);
    return;
  }
  here.takeDecisions(joints, refusal.decisions);
  if (here !== board) {
    notify(say("app.refused", { reason: refusal.message }), true);
    return;
  }
  const key = joints.find((joint) => here.decisions.get(joint)?.length) ?? joints[0];
  const last = here.decisions.get(key)?.at(-1);
  find("conflict-title").textContent = say(refusal.superseded ? "conflict.superseded_title" : "conflict.title");
  find("conflict-text").textContent = refusal.superseded
    ? say("conflict.superseded", { serial: here.about.serial })
    : say("conflict.text", { name: last?.decided_by ?? "", joint: key, state: last ? describeDecision(last) : "" });
  supersededSerial = refusal.superseded ? here.about.serial : null;
  showAny(joints[0]);
  find("conflict").showModal();
}

// What keys and buttons do

const ACTS = {
  good: () => decide("good"), repaired: () => decide("repaired"), accepted: () => decide("accepted"), closed: () => decide("closed"),
  back: () => step(-1), previous: () => step(-1), next: () => step(1), undo,
  slice_up: () => view.moveSlice(1), slice_down: () => view.moveSlice(-1), reset_grey: view.takeGreyBack,
  map: () => map.focus(), queue: () => openQueue(), search: () => find("search").focus(), help: openHelp,
};

async function act(action) {
  try {
    if (view.isGreyAct(action)) view.moveGrey(action);
    else if (action.startsWith("class_")) {
      const label = defects()[Number(action.slice(6)) - 1];
      if (label) await decide(label);
    } else await ACTS[action]();
  } catch (error) {
    complain(error);
  }
}

function isLooking() {
  return board && !find("looking").hidden;
}

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (document.querySelector("dialog[open]")) return;
  if (target.matches("input, select, textarea")) {
    if (event.key === "Escape") find("joint-title").focus();
    return;
  }
  if (noticeScanner(event)) return;
  if (target.matches("button, a") && [" ", "Enter"].includes(event.key)) return;
  const action = findAct(event);
  if (!board) steerQueue(event, action);
  else if (!isLooking()) steerEnd(event, action);
  else if (action && !(event.repeat && (isDeciding(action) || action === "undo"))) {
    event.preventDefault();
    if (event.key.length === 1 && event.key !== " " && !event.repeat) wait(event.key, () => act(action));
    else act(action);
  }
});

function wait(key, run) {
  typed = { key, run, timer: setTimeout(() => { typed = null; run(); }, SCAN_MS) };
}

// Text that comes faster than a person types is a serial: it goes to the search field and decides nothing.
function noticeScanner(event) {
  if (!typed) return false;
  const { key, run, timer } = typed;
  clearTimeout(timer);
  typed = null;
  if (event.key.length !== 1 || event.repeat) {
    run();
    return false;
  }
  find("search").value = key + event.key;
  event.preventDefault();
  find("search").focus();
  return true;
}

function steerQueue(event, action) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveFocus(event.key === "ArrowDown" ? 1 : -1);
  } else if (action === "search" || action === "help") {
    event.preventDefault();
    act(action);
  } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) find("search").focus(); // it takes the key
}

function steerEnd(event, action) {
  const moves = { good: openNextBoard, next: openNextBoard, back: () => step(-1), previous: () => step(-1), undo, queue: () => openQueue(), search: ACTS.search, help: openHelp };
  const move = event.key === "Enter" ? openNextBoard : moves[action];
  if (!move || event.repeat) return;
  event.preventDefault();
  Promise.resolve(move()).catch(complain);
}

function openHelp() {
  const changed = () => showButtons();
  showKeys(find("keys-columns"), find("keys-notice"), changed);
  find("help").showModal();
}

function showButtons() {
  document.body.dataset.stage = me.stage;
  const classes = defects().map((label, k) => [`class_${k + 1}`, label]);
  const acts = [["good", "good"], ...(me.stage === "repair" ? REPAIR_ONLY.map((act) => [act, null]) : []), ...classes];
  find("actions").replaceChildren(...acts.map(([action, label]) => {
    const button = document.createElement("button");
    button.dataset.act = action;
    const words = label === null || label === "good" ? say(`act.${action}`) : name("class", label);
    button.append(...(label && label !== "good" ? [makeMark(label)] : []), words, makeKey(action));
    return button;
  }));
  for (const button of find("moves").getElementsByTagName("button")) button.replaceChildren(say(`act.${button.dataset.act}`), makeKey(button.dataset.act));
  find("help-key").textContent = showKey("help");
  find("next-board-key").textContent = showKey("good");
}

function makeKey(action) {
  return Object.assign(document.createElement("kbd"), { textContent: showKey(action) });
}

async function takeLanguage(chosen) {
  await loadWords(chosen);
  find("language").value = chosen;
  find("who").textContent = me.name ? `${me.name} (${say(`stage.${me.stage}`)})` : "";
  showButtons();
}

async function redraw() {
  if (!board) return showQueue(openBoard);
  const key = view.shownKey();
  view.listTasks(board, showTask);
  showParts();
  map.part = null;
  find("board-facts").replaceChildren(makeVerdict(board.about.verdict), ` ${describeBoard(board.about)}`);
  return key ? showAny(key) : undefined;
}

async function search(text) {
  const found = await askQueue(2, 0, text);
  const [first] = found.boards;
  if (text && first && (first.serial === text || found.boards.length === 1)) {
    find("search").value = "";
    return openBoard(first.record);
  }
  return openQueue(true, text);
}

async function makeGolden() {
  const { record, serial, product } = board.about;
  await send("PUT", `/v1/golden/${encodeURIComponent(product)}`, { record });
  notify(say("board.made_golden", { serial, product }));
  await openBoard(record, false);
}

function listen() {
  const run = (work) => (event) => { event?.preventDefault(); Promise.resolve(work(event)).catch(complain); };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (!button) return;
    if (!find("board").hidden) find("joint-title").focus({ preventScroll: true }); // a key pressed next must not press this button again
    act(button.dataset.act);
  });
  find("search-form").addEventListener("submit", run(() => search(find("search").value.trim())));
  for (const link of document.querySelectorAll('a[href="/"]')) link.addEventListener("click", run(() => openQueue()));
  find("to-queue").addEventListener("click", run(() => openQueue()));
  find("done-queue").addEventListener("click", run(() => openQueue()));
  find("next-board").addEventListener("click", run(openNextBoard));
  find("queue-more").addEventListener("click", run(() => turnPage(openBoard, 1)));
  find("queue-less").addEventListener("click", run(() => turnPage(openBoard, -1)));
  find("make-golden").addEventListener("click", run(makeGolden));
  find("help-open").addEventListener("click", openHelp);
  find("help-close").addEventListener("click", () => find("help").close());
  find("keys-reset").addEventListener("click", () => { resetKeys(); openHelpAgain(); });
  find("conflict-again").addEventListener("click", run(() => {
    find("conflict").close();
    find("joint-title").focus();
    return supersededSerial === null ? undefined : search(supersededSerial);
  }));
  find("language").addEventListener("change", run(async () => {
    localStorage.setItem("inspect_pop.language", find("language").value);
    await takeLanguage(find("language").value);
    await redraw();
  }));
  find("stage").addEventListener("change", run(async () => {
    me.stage = find("stage").value;
    await takeLanguage(language);
    await (board ? openBoard(board.about.record, false) : showQueue(openBoard));
  }));
  find("log-out").addEventListener("submit", run(logOut));
  addEventListener("popstate", run(() => route()));
  view.followPointer();
}

function openHelpAgain() {
  showKeys(find("keys-columns"), find("keys-notice"), showButtons);
  showButtons();
}

function route() {
  const record = location.pathname.match(/^\/board\/(.+)$/)?.[1];
  return record ? openBoard(decodeURIComponent(record), false) : openQueue(false);
}

async function start() {
  await Promise.all([loadMe(), loadLooks()]);
  const wanted = localStorage.getItem("inspect_pop.language") ?? me.language ?? navigator.language.slice(0, 2);
  await takeLanguage(wanted === "zh" ? "zh" : "en");
  find("stage-setting").hidden = !me.rights.includes("overrule");
  find("stage").value = me.stage;
  listen();
  await route();
}

start().catch(complain);
