// The page of the disagreements: the most surprising joint first, each a link to its board.
import { begin, find, makeCell } from "./learn.js";
import { get } from "./net.js";
import { name, say, showTime } from "./words.js";

const MOST = 200;

function makeRow(item) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `/board/${encodeURIComponent(item.record)}`;
  link.textContent = item.serial;
  const serial = document.createElement("td");
  serial.append(link);
  const called = item.called === null ? name("class", "none") : name("class", item.called);
  row.append(
    makeCell(item.p === null ? "–" : item.p.toFixed(3)),
    serial,
    makeCell(item.joint),
    makeCell(name("learning", item.kind)),
    makeCell(called),
    makeCell(name("class", item.label)),
    makeCell(item.decided_by),
    makeCell(name("stage", item.stage)),
    makeCell(showTime(item.decided_at)),
  );
  row.title = item.note;
  return row;
}

async function show() {
  const { report } = await get(`/v1/disagreements?limit=${MOST}`);
  const percent = (value) => (100 * value).toFixed(1);
  find("numbers").textContent = say("learn.numbers", report);
  find("escapes").textContent = say(report.sampled ? "learn.escapes" : "learn.no_sample", {
    ...report, low: percent(report.escape_low), high: percent(report.escape_high),
  });
  const { forecast } = report;
  find("forecast").textContent = forecast.boards === null
    ? say("learn.not_known")
    : say(forecast.boards ? "learn.wait" : "learn.may_pay", forecast);
  const suspects = report.confirmed + report.false_calls + report.cleared;
  find("bias").textContent = report.sampled ? say("learn.bias", { suspects, sampled: report.sampled }) : "";
  find("count").textContent = say("learn.count", { n: report.n_disagreements, shown: report.disagreements.length });
  find("rows").replaceChildren(...report.disagreements.map(makeRow));
}

await begin(show);
