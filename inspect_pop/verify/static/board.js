// One board as the page knows it: its joints, what is to be judged at this stage, and what people decided.
import { get, me, send } from "./net.js";

const RANKS = { fail: 0, review: 1, pass: 2 };
const CONFIRMED = ["DefectConfirmed", "DefectMissed"];
const WITHDRAWN = "DefectWithdrawn";

export const keyOf = (joint) => `${joint.refdes}.${joint.interface}.${joint.ball}`;

// How many decisions are on their way, for whoever must not close the page yet.
function markSending(change) {
  const { dataset } = document.body;
  dataset.sending = Number(dataset.sending ?? 0) + change;
}

addEventListener("beforeunload", (event) => {
  if (Number(document.body.dataset.sending ?? 0) > 0) event.preventDefault();
});

export async function loadBoard(record) {
  return new Board(await get(`/v1/records/${encodeURIComponent(record)}`));
}

export class Board {
  constructor(about) {
    this.about = about;
    this.joints = new Map(about.joints.map((joint) => [keyOf(joint), joint]));
    this.decisions = new Map();
    for (const decision of about.decisions) this.add(decision);
    this.undoable = []; // lists of joints that this person decided together, the latest last
    this.sending = Promise.resolve();
    this.tasks = this.findTasks();
  }

  add(decision) {
    const key = keyOf(decision);
    if (!this.decisions.has(key)) this.decisions.set(key, []);
    this.decisions.get(key).push(decision);
  }

  // The decisions about a joint that stand, the one that counts last: a withdrawal takes away what its stage decided until then.
  standing(key) {
    let standing = [];
    for (const decision of this.decisions.get(key) ?? []) {
      if (decision.state === WITHDRAWN) standing = standing.filter((other) => other.stage !== decision.stage);
      else standing.push(decision);
    }
    const [operator, repair] = ["operator", "repair"].map((stage) => standing.filter((other) => other.stage === stage));
    return [...operator, ...repair];
  }

  current(key) {
    return this.standing(key).at(-1) ?? null;
  }

  isToJudge(key) {
    const joint = this.joints.get(key);
    if (me.stage !== "repair") return joint.role === "suspect" || joint.role === "sample";
    return this.standing(key).some((decision) => CONFIRMED.includes(decision.state) && decision.stage !== "repair")
      || CONFIRMED.includes(this.current(key)?.state);
  }

  isDone(task) {
    return task.joints.every((key) => {
      const current = this.current(key);
      if (me.stage !== "repair") return current !== null;
      return current !== null && !CONFIRMED.includes(current.state);
    });
  }

  // Worst first: failed before in doubt, those that the model is surest of last among the doubtful; the sample at the end.
  findTasks() {
    const open = [...this.joints.keys()].filter((key) => this.isToJudge(key));
    const grouped = new Map();
    for (const group of this.about.groups) {
      const joints = group.joints.filter((key) => open.includes(key));
      if (joints.length > 1) for (const key of joints) grouped.set(key, { group, joints });
    }
    const tasks = [];
    const taken = new Set();
    for (const key of open.toSorted((a, b) => this.compare(a, b))) {
      const found = grouped.get(key);
      if (!found) tasks.push({ joints: [key], group: null });
      else if (!taken.has(found.group.id)) {
        taken.add(found.group.id);
        tasks.push({ joints: found.joints.toSorted((a, b) => this.compare(a, b)), group: found.group });
      }
    }
    return tasks;
  }

  compare(a, b) {
    const [first, second] = [this.joints.get(a), this.joints.get(b)];
    return RANKS[first.verdict] - RANKS[second.verdict] || (first.confidence ?? 0) - (second.confidence ?? 0) || (a < b ? -1 : 1);
  }

  // What a person's choice means for a joint: a state and a label. Null where there is nothing to decide.
  makeDecision(key, choice) {
    const joint = this.joints.get(key);
    const passed = joint.verdict === "pass";
    const named = { repaired: "DefectRepaired", accepted: "DefectAccepted", closed: "DefectClosed" }[choice];
    if (named) return { state: named, label: null };
    if (choice === "good") return { state: passed ? "PassConfirmed" : "DefectRejected", label: "good" };
    return { state: passed ? "DefectMissed" : "DefectConfirmed", label: choice };
  }

  // Sends a choice about some joints, after those before it. Shows it at once, and takes it back if it is refused.
  decide(joints, choice, note) {
    const made = joints.map((key) => [key, this.makeDecision(key, choice)]);
    this.undoable.push(joints);
    return this.write(made, note).catch((refusal) => {
      this.undoable = this.undoable.filter((other) => other !== joints);
      throw refusal;
    });
  }

  undo() {
    const joints = this.undoable.pop();
    if (!joints) return null;
    const made = joints.map((key) => [key, { state: WITHDRAWN, label: null }]);
    return { joints, written: this.write(made, "") };
  }

  write(made, note) {
    const shown = made.map(([key, decision]) => {
      const { refdes, interface: name, ball } = this.joints.get(key);
      return { refdes, interface: name, ball, ...decision, note, stage: me.stage, decided_by: me.name, decided_at: new Date().toISOString(), id: null };
    });
    const seen = made.map(([key]) => this.decisions.get(key)?.at(-1) ?? null);
    for (const decision of shown) this.add(decision);
    markSending(1);
    const done = this.sending.then(() => this.post(shown, seen)).finally(() => markSending(-1));
    this.sending = done.catch(() => {});
    return done;
  }

  async post(shown, seen) {
    const content = shown.map(({ decided_by, decided_at, id, ...rest }, k) => ({ record: this.about.record, ...rest, seen: seen[k]?.id ?? null }));
    try {
      const reply = await send("POST", `/v1/boards/${encodeURIComponent(this.about.serial)}/decisions`, content);
      shown.forEach((decision, k) => { Object.assign(decision, { id: reply.ids[k], decided_at: reply.decided_at, decided_by: reply.decided_by }); });
      this.about.final = reply.final;
    } catch (refusal) {
      for (const decision of shown) {
        const list = this.decisions.get(keyOf(decision));
        list.splice(list.indexOf(decision), 1);
      }
      throw refusal;
    }
  }

  // Takes the decisions that others made meanwhile, as a refusal brings them.
  takeDecisions(joints, decisions) {
    for (const key of joints) this.decisions.set(key, decisions.filter((decision) => keyOf(decision) === key));
  }
}
