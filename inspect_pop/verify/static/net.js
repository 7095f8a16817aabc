// What the page asks the station for. A refusal is thrown as a Refusal with the station's reason.
export class Refusal extends Error {
  constructor(status, body) {
    super(body.reason ?? String(status));
    this.status = status;
    this.decisions = body.decisions ?? [];
    this.superseded = body.superseded ?? false;
  }
}

export const me = { name: "", stage: "operator", rights: [], csrf: "", language: null };

async function ask(address, options = {}) {
  const reply = await fetch(address, options);
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => ({}));
  throw new Refusal(reply.status, body);
}

export async function get(address) {
  return (await ask(address)).json();
}

export async function send(method, address, content) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": me.csrf };
  return (await ask(address, { method, headers, body: JSON.stringify(content) })).json();
}

export async function loadMe() {
  Object.assign(me, await get("/v1/me"));
}

export async function logOut(event) {
  event.preventDefault();
  await fetch("/logout", { method: "POST", headers: { "X-CSRF-Token": me.csrf } });
  location.assign("/login");
}

const LARGEST_CACHE = 90; // windows of 25 to 60 kB
const windows = new Map();

export function loadWindow(record, joint) {
  const address = `/v1/records/${encodeURIComponent(record)}/windows/${encodeURIComponent(joint)}`;
  const known = windows.get(address);
  if (known) {
    windows.delete(address);
    windows.set(address, known);
    return known;
  }
  const entry = { value: null, fault: null };
  entry.ready = fetchWindow(address).then(
    (value) => { entry.value = value; },
    (fault) => { entry.fault = fault; if (!(fault instanceof Refusal)) windows.delete(address); },
  );
  windows.set(address, entry);
  if (windows.size > LARGEST_CACHE) windows.delete(windows.keys().next().value);
  return entry;
}

async function fetchWindow(address) {
  const reply = await ask(address);
  const about = JSON.parse(reply.headers.get("X-Windows"));
  const body = await reply.arrayBuffer();
  const [n, height, width] = about.shape;
  const slices = Array.from({ length: n }, (_, k) => new Uint16Array(body, 2 * k * height * width, height * width));
  const heights = about.heights && new Uint16Array(body, 2 * n * height * width);
  return { about, slices, heights };
}
