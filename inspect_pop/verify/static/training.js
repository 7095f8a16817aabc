// The page of the training: its state, its figures and what may be done now.
import { begin, find, makeCell, run } from "./learn.js";
import { get, me, send } from "./net.js";
import { name, say, showTime } from "./words.js";

const EVERY_MS = 3000;
const ACTS = { start: "can_start", cancel: "can_cancel", promote: "can_promote", rollback: "can_roll_back" };
const RIGHTS = { start: "train", cancel: "train", promote: "promote", rollback: "promote" };
const RATES = ["escape", "false_call", "review"];

function showRate(rate) {
  if (!rate || rate.rate === null) return "–";
  const percent = (value) => (100 * value).toFixed(2);
  const low = Math.min(rate.low, rate.board_low ?? rate.low);
  const high = Math.max(rate.high, rate.board_high ?? rate.high);
  return say("learn.share", { rate: percent(rate.rate), count: rate.count, of: rate.of, low: percent(low), high: percent(high) });
}

function show(training) {
  find("state").textContent = name("learning", training.state);
  const when = training.started_at ? say("learn.started", { who: training.started_by, when: showTime(training.started_at) }) : "";
  find("reason").textContent = [when, training.reason].filter(Boolean).join(" · ");
  find("missing").hidden = !training.missing;
  find("missing").textContent = training.missing ? say("learn.missing", { reason: training.missing }) : "";
  find("present").textContent = say("learn.present", { model: training.model });
  for (const [act, may] of Object.entries(ACTS)) find(act).disabled = !training[may] || !me.rights.includes(RIGHTS[act]);
  find("running").hidden = training.state !== "running" && training.state !== "failed";
  if (training.progress === null) find("progress").removeAttribute("value");
  else find("progress").value = training.progress;
  find("lines").textContent = training.lines.join("\n");
  const { old, new: fresh } = training.figures;
  find("judged").hidden = !fresh;
  if (!fresh) return;
  find("figures").replaceChildren(...RATES.map((rate) => {
    const row = document.createElement("tr");
    row.append(makeCell(name("learning", rate), "th"), makeCell(showRate(old?.[rate])), makeCell(showRate(fresh[rate])));
    row.firstChild.scope = "row";
    return row;
  }));
  find("boards").textContent = say("learn.golden", { boards: fresh.boards, joints: fresh.joints, defects: fresh.defects });
  find("gates").replaceChildren(...training.gates.map((gate) => {
    const passed = say(gate.passed ? "learn.pass" : "learn.stop");
    return makeCell(`${passed} ${gate.name}: ${gate.explanation}`, "li");
  }));
  find("curve").textContent = training.curve;
  find("bias").textContent = training.bias;
}

async function refresh() {
  show(await get("/v1/training"));
}

for (const act of Object.keys(ACTS)) {
  find(act).addEventListener("click", run(async () => {
    find(act).disabled = true;
    try {
      show(await send("POST", `/v1/training/${act}`, {}));
    } catch (fault) {
      await refresh();
      throw fault;
    }
  }));
}
await begin(refresh);
setInterval(() => { if (!document.hidden) refresh().catch(() => {}); }, EVERY_MS);
