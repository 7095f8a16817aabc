"use strict";

// The board's page: colour the ball maps, describe a joint.
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);

  // Cividis (Nunez et al., 2018) for figures, blue to orange around zero for signed ones: both are safe for colour-blind readers.
  const RISING = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
  const SIGNED = [[26, 95, 160], [140, 180, 214], [250, 250, 250], [232, 172, 120], [201, 92, 0]];
  const rgb = (stops, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((v, k) => Math.round(v + (stops[low + 1][k] - v) * (at - low)));
  };
  const css = (c) => `rgb(${c.join(",")})`;
  const bright = (c) => 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2] > 140;
  const format = (m, v) => v === null ? "–" : (m.signed && v > 0 ? "+" : "") + v.toFixed(m.decimals).replace("-", "−") + (m.unit ? " " + m.unit : "");
  const words = (label) => label === null ? "undecided" : data.words[label] ?? label;

  const element = (name, text, parent, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== null) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };

  const range = (measure, marks) => {
    const values = marks.map((u) => data.values[measure.key][u.dataset.j]).filter((v) => v !== null).sort((a, b) => a - b);
    if (!values.length) return null;
    let low = values[Math.floor(0.01 * (values.length - 1))], high = values[Math.ceil(0.99 * (values.length - 1))];
    if (measure.signed) { high = Math.max(Math.abs(low), Math.abs(high)); low = -high; }
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  };

  const paint = (part, key) => {
    const marks = [...part.querySelectorAll("[data-map] .j")];
    const measure = data.measures.find((m) => m.key === key);
    part.querySelector('[data-legend="class"]').classList.toggle("hide", Boolean(measure));
    const scale = part.querySelector('[data-legend="scale"]');
    scale.classList.toggle("hide", !measure);
    for (const mark of marks) { mark.classList.remove("value", "unknown"); mark.removeAttribute("style"); }
    if (!measure) return;
    const stops = measure.signed ? SIGNED : RISING;
    const ends = range(measure, marks);
    for (const mark of marks) {
      const value = data.values[key][mark.dataset.j];
      mark.classList.add(value === null || !ends ? "unknown" : "value");
      if (value === null || !ends) continue;
      const colour = rgb(stops, (value - ends[0]) / (ends[1] - ends[0]));
      mark.style.setProperty("--v", css(colour));
      mark.style.setProperty("--on", bright(colour) ? "#16202a" : "#fff");
    }
    const [low, high] = scale.querySelectorAll("b");
    low.textContent = ends ? format(measure, ends[0]) : "–";
    high.textContent = ends ? format(measure, ends[1]) : "–";
    scale.querySelector("i").style.background = `linear-gradient(90deg, ${stops.map((c) => css(c)).join(", ")})`;
  };

  const forget = () => document.querySelectorAll(".ring").forEach((ring) => ring.remove());

  // The marks that a text names: a ball, alone or with its interface, its package or both. A ball's name may hold any sign.
  const plain = (text) => text.toUpperCase().replace(/[\s.,;:/·_-]+/g, " ").trim();
  const search = (part, text) => {
    const wanted = plain(text);
    const among = (root) => [...root.querySelectorAll("[data-map] .j")].filter((mark) => {
      const row = mark.dataset.j, [refdes, side, ball] = [data.refdes[row], data.interface[row], data.ball[row]];
      const names = [[ball], [side, ball], [ball, side], [refdes, ball], [refdes, side, ball], [side, refdes, ball], [refdes, ball, side]];
      return names.some((name) => plain(name.join(" ")) === wanted);
    });
    const found = among(part);
    return found.length ? found : among(document).filter((mark) => wanted.includes(plain(data.refdes[mark.dataset.j]) + " "));
  };

  const title = (row) => `${data.refdes[row]} ${data.interface[row]} ${data.ball[row]}: ${words(data.label[row])}, ${data.verdict[row]}`;

  // A joint that was searched or clicked stays until another is, or the map is clicked beside all joints: a pointer over which
  // the page moves would otherwise replace it.
  const pinned = new Set();
  const pin = (part, mark) => { pinned.add(part); describe(part, mark); };

  // An answer belongs to the text that stands in the field: what is not found, or found twice, leaves no earlier joint on show.
  const answer = (part, text) => {
    const box = part.querySelector("[data-joint]"), found = text ? search(part, text) : [];
    pinned.delete(part);
    if (found.length === 1) { pin(part, found[0]); return; }
    forget();
    box.replaceChildren();
    if (!text) { element("p", "Point at a joint, or tap it, to read its figures.", box, { class: "empty" }); return; }
    if (!found.length) { element("p", `No joint ${text}.`, box, { class: "missing" }); return; }
    element("p", `${found.length} joints have this name:`, box);
    for (const mark of found) {
      element("button", title(mark.dataset.j), element("p", null, box), { type: "button" }).addEventListener("click", () => pin(part, mark));
    }
  };

  const describe = (part, mark) => {
    const row = Number(mark.dataset.j), box = part.querySelector("[data-joint]");
    forget();
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    ring.setAttribute("class", "ring"); ring.setAttribute("r", "17"); ring.setAttribute("stroke-width", "3.5");
    ring.setAttribute("transform", mark.getAttribute("transform"));
    mark.after(ring);
    box.replaceChildren();
    const heading = element("h3", title(row), box);
    if (document.getElementById(`joint-${row}`)) { heading.append(" "); element("a", "its pictures", heading, { href: `#joint-${row}` }); }
    if (data.reason[row]) element("p", data.reason[row], box);
    const list = element("dl", null, box);
    for (const measure of data.measures) {
      const pair = element("div", null, list);
      element("dt", measure.words, pair);
      element("dd", format(measure, data.values[measure.key][row]), pair);
    }
  };

  for (const part of document.querySelectorAll(".package")) {
    const select = part.querySelector("[data-colour]"), find = part.querySelector("[data-find]");
    for (const measure of data.measures) element("option", measure.words + (measure.unit ? `, ${measure.unit}` : ""), select, { value: measure.key });
    select.addEventListener("change", () => paint(part, select.value));
    for (const map of part.querySelectorAll("[data-map]")) {
      map.addEventListener("pointerover", (event) => { if (event.target.dataset.j && !pinned.has(part)) describe(part, event.target); });
      map.addEventListener("click", (event) => { if (event.target.dataset.j) pin(part, event.target); else pinned.delete(part); });
    }
    find.addEventListener("input", () => answer(part, find.value.trim()));
  }
})();

// The run's page: show some boards, sort them.
(() => {
  for (const part of document.querySelectorAll("[data-boards]")) {
    const body = part.querySelector("tbody"), rows = [...body.rows];
    const verdict = part.querySelector("[data-verdict]"), text = part.querySelector("[data-text]"), shown = part.querySelector("[data-shown]");
    const filter = () => {
      const wanted = text.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        const keep = (!verdict.value || row.dataset.v === verdict.value) && (!wanted || row.textContent.toLowerCase().includes(wanted));
        row.hidden = !keep;
        count += keep;
      }
      shown.textContent = `${count} of ${rows.length} boards`;
    };
    verdict.addEventListener("change", filter);
    text.addEventListener("input", filter);
    for (const button of part.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => {
        const falling = button.getAttribute("aria-sort") === "ascending", column = Number(button.dataset.sort), number = "number" in button.dataset;
        part.querySelectorAll("[data-sort]").forEach((other) => other.removeAttribute("aria-sort"));
        button.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => row.cells[column].textContent.trim();
        rows.sort((a, b) => (number ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b), undefined, { numeric: true })) * (falling ? -1 : 1));
        body.append(...rows);
      });
    }
    filter();
  }
})();
