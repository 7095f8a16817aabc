// Which key does what: as delivered, and as this browser keeps it.
import { defects } from "./map.js";
import { name, say } from "./words.js";

const DELIVERED = {
  good: [" ", "g"], class_1: ["1"], class_2: ["2"], class_3: ["3"], class_4: ["4"], class_5: ["5"],
  back: ["Backspace", "b"], undo: ["u"], next: ["n"], previous: ["p"],
  slice_up: ["ArrowUp"], slice_down: ["ArrowDown"],
  darker: ["ArrowLeft"], brighter: ["ArrowRight"], darker_coarse: ["Shift+ArrowLeft"], brighter_coarse: ["Shift+ArrowRight"],
  softer: ["-"], harder: ["="], softer_coarse: ["_"], harder_coarse: ["+"], reset_grey: ["0"],
  repaired: ["f"], accepted: ["a"], closed: ["c"],
  map: ["m"], queue: ["q"], search: ["/"], help: ["?"],
};
const PLACE = "inspect_pop.keys";
let keys = read();

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE)) ?? {};
    const known = Object.entries(kept).filter(([act, list]) => act in DELIVERED && Array.isArray(list));
    return { ...DELIVERED, ...Object.fromEntries(known) };
  } catch {
    return { ...DELIVERED };
  }
}

export function nameKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const hasCase = event.key.length > 1 || event.key.toLowerCase() !== event.key.toUpperCase();
  return event.shiftKey && hasCase ? `Shift+${key}` : key;
}

export function findAct(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return null;
  const key = nameKey(event);
  return Object.keys(keys).find((act) => keys[act].includes(key)) ?? null;
}

export function showKey(act) {
  const key = keys[act]?.[0] ?? "";
  return showName(key);
}

function showName(key) {
  const bare = key.startsWith("Shift+") ? key.slice(6) : key;
  const signs = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Backspace: "⌫", Enter: "⏎", " ": say("keys.space") };
  return (bare === key ? "" : "⇧") + (signs[bare] ?? bare.toUpperCase());
}

export function showKeys(columns, notice, changed) {
  const acts = Object.keys(DELIVERED).filter((act) => describeAct(act) !== null);
  columns.replaceChildren(...acts.map((act) => makeRow(act, columns, notice, changed)));
}

// What an act does, in words; null for the key of a class that there is not.
function describeAct(act) {
  if (!act.startsWith("class_")) return say(`keys.${act}`);
  const label = defects()[Number(act.slice(6)) - 1];
  return label ? say("keys.class", { class: name("class", label) }) : null;
}

function makeRow(act, columns, notice, changed) {
  const row = document.createElement("div");
  const text = document.createElement("span");
  text.textContent = describeAct(act);
  const button = document.createElement("button");
  button.append(...keys[act].map((key) => Object.assign(document.createElement("kbd"), { textContent: showName(key) })));
  button.setAttribute("aria-label", `${describeAct(act)}: ${keys[act].map(showName).join(", ")}`);
  button.addEventListener("click", () => {
    button.textContent = say("keys.press");
    button.className = "wait";
    button.addEventListener("keydown", (event) => {
      if (["Shift", "Control", "Alt", "Meta", "Tab"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      if (event.key !== "Escape") change(act, nameKey(event), notice);
      showKeys(columns, notice, changed);
      changed();
    });
    button.addEventListener("blur", () => showKeys(columns, notice, changed));
  }, { once: true });
  row.append(text, button);
  return row;
}

function change(act, key, notice) {
  const owner = Object.keys(keys).find((other) => other !== act && keys[other].includes(key));
  notice.textContent = owner ? say("keys.taken", { key: showName(key), action: describeAct(owner) }) : "";
  if (owner) return;
  keys[act] = [key];
  localStorage.setItem(PLACE, JSON.stringify(keys));
}

export function resetKeys() {
  localStorage.removeItem(PLACE);
  keys = read();
}
