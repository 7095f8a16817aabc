// What the pages of learning share: words, language, and a notice of what the station refuses.
import { loadMe, me } from "./net.js";
import { loadWords, say } from "./words.js";

export const find = (id) => document.getElementById(id);

export function makeCell(text, kind = "td") {
  const cell = document.createElement(kind);
  cell.textContent = text;
  return cell;
}

export function run(act) {
  return async () => {
    try {
      find("notice").textContent = "";
      await act();
    } catch (fault) {
      find("notice").textContent = say("app.refused", { reason: fault.message });
    }
  };
}

export async function begin(show) {
  await loadMe();
  const wanted = localStorage.getItem("inspect_pop.language") ?? me.language ?? navigator.language.slice(0, 2);
  find("language").value = wanted === "zh" ? "zh" : "en";
  await loadWords(find("language").value);
  find("language").addEventListener("change", run(async () => {
    localStorage.setItem("inspect_pop.language", find("language").value);
    await loadWords(find("language").value);
    await show();
  }));
  await run(show)();
}
