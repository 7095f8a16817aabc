// What the pages of learning share: words, language, and a notice of what the station refuses.
import { loadMe, logOut, me } from "./net.js";
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

function showPerson() {
  find("who").textContent = me.name ? `${me.name} (${say(`stage.${me.stage}`)})` : "";
}

export async function begin(show) {
  await loadMe();
  for (const link of document.querySelectorAll("nav a")) if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
  find("log-out").addEventListener("submit", logOut);
  const wanted = localStorage.getItem("inspect_pop.language") ?? me.language ?? navigator.language.slice(0, 2);
  find("language").value = wanted === "zh" ? "zh" : "en";
  await loadWords(find("language").value);
  showPerson();
  find("language").addEventListener("change", run(async () => {
    localStorage.setItem("inspect_pop.language", find("language").value);
    await loadWords(find("language").value);
    showPerson();
    await show();
  }));
  await run(show)();
}
