// The page's words: loaded from the catalogue, put where the page names them.
let words = {};
export let language = "en";

export async function loadWords(name) {
  const reply = await fetch(`/verify/words/${name}.json`);
  words = await reply.json();
  language = name;
  document.documentElement.lang = name;
  showWords(document);
  document.title = `${say("app.title")} · inspect_pop`;
}

export function say(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

// A word of a table, such as a class; one that the catalogue lacks is shown as it is.
export function name(group, key) {
  return words[`${group}.${key}`] ?? String(key);
}

export function showWords(root) {
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of root.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", say(element.dataset.wordLabel));
    element.title = say(element.dataset.wordLabel);
  }
  for (const element of root.querySelectorAll("[data-word-hint]")) element.placeholder = say(element.dataset.wordHint);
}

// Year, month, day as ISO 8601 has them, in the browser's time zone: 3/2 is March in some plants and February in others.
export function showTime(text) {
  return new Date(text).toLocaleString("sv-SE", { dateStyle: "short", timeStyle: "short" });
}

export function showNumber(value, unit) {
  const size = Math.abs(value);
  const digits = unit === "µm" ? (size < 10 ? 1 : 0) : size < 0.1 ? 3 : 2;
  return value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}
