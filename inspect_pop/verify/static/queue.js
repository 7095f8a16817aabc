// The queue: boards that wait at this stage, worst first, and boards found by their serial.
import { get, me } from "./net.js";
import { name, say, showTime } from "./words.js";

const BOARDS_A_PAGE = 50;
const SIGNS = { pass: "✓", fail: "✕", review: "?" };
let offset = 0;
let searched = "";

const find = (id) => document.getElementById(id);

export function askQueue(limit, at = 0, text = "") {
  const query = new URLSearchParams({ stage: me.stage, limit, offset: at });
  if (text) query.set("search", text);
  return get(`/v1/queue?${query}`);
}

export function makeVerdict(verdict) {
  const box = Object.assign(document.createElement("span"), { className: "verdict" });
  const sign = Object.assign(document.createElement("span"), { className: "sign", textContent: SIGNS[verdict] ?? "?" });
  sign.classList.add(verdict);
  sign.setAttribute("aria-hidden", "true");
  box.append(sign, name("verdict", verdict));
  return box;
}

export async function showQueue(open, text = searched, at = 0) {
  [searched, offset] = [text, at];
  find("queue-count").textContent = say("app.working");
  const found = await askQueue(BOARDS_A_PAGE, at, text);
  const n = found.boards.length;
  find("queue-count").textContent = describe(found, n, text);
  find("queue-rows").replaceChildren(...found.boards.map((board) => makeRow(board, open)));
  find("queue-less").hidden = at === 0;
  find("queue-more").hidden = n < BOARDS_A_PAGE;
  return found;
}

function describe(found, n, text) {
  if (text) return n ? say("queue.found", { n, text }) : say("queue.not_found", { text });
  return found.waiting ? say("queue.waiting", { n: found.waiting }) : say("queue.none");
}

export function turnPage(open, direction) {
  return showQueue(open, searched, Math.max(0, offset + direction * BOARDS_A_PAGE));
}

function makeRow(board, open) {
  const row = document.createElement("tr");
  const button = Object.assign(document.createElement("button"), { textContent: board.serial });
  button.setAttribute("aria-label", say("queue.open", { serial: board.serial }));
  button.addEventListener("click", () => open(board.record));
  const left = [];
  if (board.n_undecided) left.push(say("queue.counts", { fail: board.n_fail, review: board.n_review }));
  if (board.n_sample_undecided) left.push(say("queue.sample", { n: board.n_sample_undecided }));
  const worst = board.n_undecided ? `${Math.round(100 * board.worst)} %` : "";
  const cells = [
    makeVerdict(board.verdict), button, left.join(" · "), worst, name("cause", board.cause ?? "none"), board.product,
    [board.line, board.station].filter(Boolean).join(" / "), showTime(board.inspected_at), name("final", board.final),
  ];
  row.append(...cells.map((content) => {
    const cell = document.createElement("td");
    cell.append(content);
    return cell;
  }));
  return row;
}

// Moves the focus from board to board.
export function moveFocus(step) {
  const buttons = [...find("queue-rows").getElementsByTagName("button")];
  const at = buttons.indexOf(document.activeElement);
  buttons[Math.min(Math.max(at + step, 0), buttons.length - 1)]?.focus();
}
