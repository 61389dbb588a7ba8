// What the pictures of the gateway say one after the other: rates, histories and changes. Nothing here draws.

export const HISTORY = 600; // points of a chart: ten minutes
const WINDOW = 5; // seconds that a rate in a table is taken over
const RECENT = 60; // seconds that "now" means for refusals
const ROUTE_HISTORIES = 300; // routes that have a history without being looked at

const sum = (counts) => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);

// less is what counts grew by since before; a counter that fell began anew.
function less(now, before) {
  const grown = {};
  for (const [name, n] of Object.entries(now ?? {})) {
    const d = n - (before?.[name] ?? 0);
    if (d > 0) grown[name] = d;
  }
  return grown;
}

// History is a row of numbers, the last HISTORY of them.
class History {
  constructor(length) {
    this.values = new Array(length).fill(null);
  }
  push(value) {
    this.values.push(value);
    if (this.values.length > HISTORY) this.values.shift();
  }
}

export class Model {
  constructor() {
    this.reset();
    this.changes = []; // the latest first
  }

  reset() {
    this.recent = []; // pictures of the last WINDOW seconds
    this.times = [];
    this.series = new Map(); // name -> History
    this.refused = []; // {uptime, counts} of the last RECENT seconds
    this.routes = new Map(); // name -> {rate, p50, p95, p99: History}
    this.status = null;
  }

  // add takes a picture that came at a time, in milliseconds.
  add(status, at) {
    const last = this.status;
    if (last && (last.started !== status.started || status.uptime_seconds < last.uptime_seconds)) {
      this.reset();
      this.note(at, "warn", `Another process serves: ${status.version}`, "its counts begin anew");
    } else if (last) {
      this.compare(last, status, at);
    } else if (!this.changes.length) {
      this.begin(status);
    }
    this.status = status;
    this.total = total(status);
    this.remember(at, status);
  }

  remember(at, status) {
    const up = status.uptime_seconds;
    this.recent.push(status);
    while (this.recent.length > 2 && up - this.recent[1].uptime_seconds >= WINDOW) this.recent.shift();
    this.refused.push({ up, counts: this.total.refusals, requests: this.total.requests });
    while (this.refused.length > 2 && up - this.refused[1].up >= RECENT) this.refused.shift();
    const before = this.recent.at(-2);
    const seconds = before ? up - before.uptime_seconds : 0;
    this.times.push(at / 1000);
    if (this.times.length > HISTORY) this.times.shift();
    const point = { p50: null, p95: null, p99: null, rate: null, errors: null };
    if (seconds > 0) {
      const was = total(before);
      point.rate = Math.max(0, this.total.requests - was.requests) / seconds;
      point.errors = sum(less({ e: this.total.errors }, { e: was.errors })) / seconds;
      for (const [reason, n] of Object.entries(less(this.total.refusals, was.refusals))) point[`reason:${reason}`] = n / seconds;
    }
    Object.assign(point, quantiles(this.total.duration));
    this.keep(this.series, point, this.times.length - 1);
    this.rememberRoutes(status, before, seconds);
  }

  // keep adds a point to every series; reasons that did not happen were 0.
  keep(series, point, length) {
    for (const name of Object.keys(point)) if (!series.has(name)) series.set(name, new History(length));
    for (const [name, history] of series) history.push(point[name] ?? (name.startsWith("reason:") ? 0 : null));
  }

  rememberRoutes(status, before, seconds) {
    const then = new Map((before?.routes ?? []).map((r) => [r.name, r]));
    const names = new Set(status.routes.map((r) => r.name));
    for (const name of this.routes.keys()) if (!names.has(name)) this.routes.delete(name);
    for (const r of status.routes) {
      let series = this.routes.get(r.name);
      if (!series) {
        if (this.routes.size >= ROUTE_HISTORIES && r.name !== this.watched) continue;
        this.routes.set(r.name, (series = new Map()));
      }
      const was = then.get(r.name);
      const point = { rate: was && seconds > 0 ? Math.max(0, r.traffic.requests - was.traffic.requests) / seconds : null, ...quantiles(r.traffic.duration) };
      this.keep(series, point, this.times.length - 1);
    }
  }

  // seconds that the rates of tables are taken over; 0: there is one picture only.
  get window() {
    return this.recent.length > 1 ? this.recent.at(-1).uptime_seconds - this.recent[0].uptime_seconds : 0;
  }

  // rates are those of the whole gateway.
  rates() {
    if (!this.window) return null;
    const [now, was] = [this.total, total(this.recent[0])];
    const per = (a, b) => Math.max(0, a - b) / this.window;
    return { requests: per(now.requests, was.requests), errors: per(now.errors, was.errors), refused: per(sum(now.refusals), sum(was.refusals)) };
  }

  // refusals of the last minute, by reason: [name, per second, count], most first.
  refusals() {
    const [first, last] = [this.refused[0], this.refused.at(-1)];
    const seconds = last.up - first.up;
    if (!(seconds > 0)) return [];
    return Object.entries(less(last.counts, first.counts)).map(([name, n]) => [name, n / seconds, n]).sort((a, b) => b[1] - a[1]);
  }

  // refusedShare is the share of the last minute's requests that were refused.
  refusedShare() {
    const [first, last] = [this.refused[0], this.refused.at(-1)];
    const requests = last.requests - first.requests;
    return requests > 0 ? Math.min(1, sum(less(last.counts, first.counts)) / requests) : 0;
  }

  // routeRows are the rows of the table of routes.
  routeRows() {
    const was = new Map(this.recent[0].routes.map((r) => [r.name, r.traffic]));
    return this.status.routes.map((r) => {
      const t = r.traffic;
      const b = this.window ? was.get(r.name) : null;
      const per = (x, y) => (b ? Math.max(0, x - y) / this.window : null);
      const grown = b ? less(t.refusals, b.refusals) : {};
      const requests = per(t.requests, b?.requests);
      const errors = per(t.statuses?.["5xx"] ?? 0, b?.statuses?.["5xx"] ?? 0);
      const why = Object.entries(grown).sort((x, y) => y[1] - x[1])[0]?.[0] ?? "";
      return {
        name: r.name, route: r, traffic: t, requests, errors: requests ? errors / requests : errors === null ? null : 0,
        refused: b ? sum(grown) / this.window : null, why,
      };
    });
  }

  // targetRows are the rows of the table of upstreams, one for each target.
  targetRows() {
    const was = new Map(this.recent[0].upstreams.flatMap((u) => u.targets.map((t) => [targetKey(u, t), t])));
    return this.status.upstreams.flatMap((u) => u.targets.map((t) => {
      const b = this.window ? was.get(targetKey(u, t)) : null;
      const per = (x, y) => (b ? Math.max(0, x - y) / this.window : null);
      return { upstream: u, target: t, requests: per(t.requests, b?.requests), failures: per(t.failures, b?.failures), ...condition(t) };
    }));
  }

  // begin notes what the first picture tells of the time before it.
  begin(s) {
    this.note(Date.parse(s.started), "", `Started: ${s.version}`, "");
    const loaded = Date.parse(s.config.loaded);
    if (s.config.reloads > 0) this.note(loaded, "", `Configuration ${short(s.config.hash)} is live`, "");
    if (s.config.last_failure) this.note(Date.parse(s.config.last_failure), Date.parse(s.config.last_failure) > loaded ? "bad" : "", "A reload failed", s.config.last_error);
    this.changes.sort((a, b) => b.at - a.at);
  }

  note(at, tone, what, why) {
    this.changes.unshift({ at, tone, what, why });
    if (this.changes.length > 100) this.changes.pop();
  }

  // compare notes what is different between two pictures.
  compare(was, now, at) {
    if (was.state !== now.state) this.note(at, now.state === "serving" ? "good" : "warn", `The gateway is ${now.state}`, "");
    if (now.config.reload_failures > was.config.reload_failures) this.note(at, "bad", "A reload failed", now.config.last_error);
    if (was.config.hash !== now.config.hash) this.note(at, "good", `Configuration ${short(now.config.hash)} is live`, differing(was, now));
    else if (now.config.reloads > was.config.reloads) this.note(at, "", "Reloaded: nothing differs", "");
    const targets = new Map(was.upstreams.flatMap((u) => u.targets.map((t) => [targetKey(u, t), condition(t)])));
    for (const u of now.upstreams) {
      for (const t of u.targets) {
        const [b, c] = [targets.get(targetKey(u, t)), condition(t)];
        if (b && b.state !== c.state) this.note(at, c.tone, `${u.name}: ${targetName(t)} ${c.tone === "good" ? "is well again" : c.state}`, c.state === "breaker open" ? "" : c.why);
      }
    }
    const methods = new Map((was.auth ?? []).map((m) => [m.name, m.usable]));
    for (const m of now.auth ?? []) {
      if (methods.has(m.name) && methods.get(m.name) !== m.usable) this.note(at, m.usable ? "good" : "bad", `${m.name} ${m.usable ? "can be judged again" : "cannot be judged"}`, m.last_error ?? "");
    }
    if (was.limit_store && now.limit_store && was.limit_store.up !== now.limit_store.up) {
      this.note(at, now.limit_store.up ? "good" : "bad", now.limit_store.up ? "Redis decides limits again" : "Redis does not decide limits", "");
    }
    this.comparePeers(was.cluster?.peers ?? [], now.cluster?.peers ?? [], at);
    this.compareRefusals(at);
  }

  comparePeers(was, now, at) {
    const peers = new Map(was.map((p) => [p.name, p.state]));
    for (const p of now) {
      if (peers.get(p.name) !== p.state) this.note(at, peerTone(p.state), `Peer ${p.name} is ${p.state}`, p.error ?? "");
      peers.delete(p.name);
    }
    for (const name of peers.keys()) this.note(at, "warn", `Peer ${name} is forgotten`, "");
  }

  // compareRefusals notes reasons that come up after a minute without them.
  compareRefusals(at) {
    if (this.refused.at(-1).up - this.refused[0].up < RECENT / 2) return;
    const happening = new Set(this.refusals().map(([name]) => name));
    for (const name of happening) if (this.known && !this.known.has(name)) this.note(at, "warn", `Refusals begin: ${name.replaceAll("_", " ")}`, "");
    this.known = happening;
  }
}

const short = (hash) => (hash ?? "").slice(0, 8);

const quantiles = (d) => ({ p50: d?.p50 || null, p95: d?.p95 || null, p99: d?.p99 || null });

// total is what the gateway did as a whole.
export const total = (s) => ({ requests: s.requests, errors: s.responses?.["5xx"] ?? 0, in_flight: s.traffic.in_flight, refusals: s.traffic.refusals ?? {}, duration: s.traffic.duration, overhead: s.traffic.overhead });

// A target of a name is one of its addresses.
export const targetName = (t) => (t.name && t.name !== t.address ? `${t.name} (${t.address})` : t.address);
export const targetKey = (u, t) => `${u.name} ${t.name ?? ""} ${t.address}`;

// condition is how a target is, the worst first.
export function condition(t) {
  const breaker = t.breaker || "closed";
  if (breaker === "open") return { state: "breaker open", tone: "bad", why: t.reopens_seconds ? `tried again in ${Math.ceil(t.reopens_seconds)} s` : "" };
  if (t.health === "unhealthy") return { state: "unhealthy", tone: "bad", why: t.last_check ?? "" };
  if (t.present === false) return { state: "ejected", tone: "bad", why: t.last_check || "several requests in a row failed" };
  if (breaker !== "closed") return { state: "on probation", tone: "warn", why: "the breaker is half-open" };
  return { state: t.health || "well", tone: "good", why: t.last_check ?? "" };
}

export const peerTone = (state) => ({ alive: "good", silent: "warn" })[state] ?? "bad";

function differing(was, now) {
  const parts = [];
  for (const [key, word] of [["routes", "route"], ["upstreams", "upstream"], ["limits", "limit"]]) {
    const [a, b] = [new Set((was[key] ?? []).map((x) => x.name)), new Set((now[key] ?? []).map((x) => x.name))];
    const [more, fewer] = [[...b].filter((n) => !a.has(n)), [...a].filter((n) => !b.has(n))];
    if (more.length) parts.push(`new ${word}${more.length > 1 ? "s" : ""} ${some(more)}`);
    if (fewer.length) parts.push(`${word}${fewer.length > 1 ? "s" : ""} ${some(fewer)} gone`);
  }
  return parts.join("; ");
}

const some = (names) => (names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", "));
