// The tables and lists below the charts.

import { at, badge, facts, fill, h, text } from "./dom.js";
import { ago, bytes, count, millis, moment, percent, plural, rate, reason, span } from "./format.js";
import { peerTone, targetKey, targetName } from "./model.js";
import { button, Table } from "./table.js";

const num = (key, label, value, show, more = {}) => ({ key, label, num: true, down: true, value, show, ...more });

function state(e, row) {
  fill(e, [h("span", {}, badge(row.state, row.tone), row.why && ` ${row.why}`)]);
}

export class Tables {
  constructor(act) {
    this.act = act;
    this.routes = this.makeRoutes();
    this.upstreams = this.makeUpstreams();
    this.limits = this.makeLimits();
    this.offenders = this.makeOffenders();
    this.cluster = this.makeCluster();
    this.offended = "limited";
    const again = () => this.model && this.drawMain(true);
    for (const id of ["routes-filter", "routes-active", "upstreams-filter", "upstreams-sick"]) at(id).addEventListener("input", again);
    for (const b of document.querySelectorAll("[data-offenders]")) b.addEventListener("click", () => this.choose(b));
  }

  choose(chosen) {
    for (const b of document.querySelectorAll("[data-offenders]")) b.setAttribute("aria-pressed", String(b === chosen));
    this.offended = chosen.dataset.offenders;
    if (this.model) this.drawOffenders(true);
  }

  update(model, now) {
    this.model = model;
    this.drawMain(false);
    this.drawLimits();
    this.drawOffenders(false);
    this.drawCluster();
    drawConfig(model.status, now);
    drawAuth(model.status, now);
    drawCertificates(model.status, now);
  }

  makeRoutes() {
    const p = (key) => (r) => r.traffic.duration?.[key] || 0;
    return new Table(at("routes-table"), {
      label: "Routes", key: (r) => r.name, sort: { key: "requests", down: true }, empty: "No route is like that.",
      columns: [
        { key: "name", label: "Route", value: (r) => r.name, draw: (e, r) => button(e, r.name, r, (row) => this.act.open(row.name)) },
        { key: "path", label: "Path", value: (r) => r.route.path, show: (v, r) => `${(r.route.hosts ?? []).join(" ")}${v}`, opt: true, wide: true },
        { key: "to", label: "To", value: (r) => r.route.to, opt: true },
        num("requests", "Req/s", (r) => r.requests, rate),
        num("errors", "5xx %", (r) => r.errors, percent, { title: "Share of requests answered with 500 and above", tone: (r) => (r.errors > 0.01 ? "bad" : r.errors > 0 ? "warn" : "") }),
        num("refused", "Refused/s", (r) => r.refused, rate, { title: "Answered by the gateway itself", tone: (r) => (r.refused > 0 ? "warn" : "") }),
        { key: "why", label: "Mostly", value: (r) => r.why, show: reason, opt: true },
        num("p50", "p50 ms", p("p50"), millis, { narrowOff: true }),
        num("p95", "p95 ms", p("p95"), millis),
        num("p99", "p99 ms", p("p99"), millis),
        num("overhead", "Own p99", (r) => r.traffic.overhead?.p99 || 0, millis, { title: "Milliseconds that the gateway itself takes", opt: true }),
        num("flight", "In flight", (r) => r.traffic.in_flight, count),
        num("total", "Total", (r) => r.traffic.requests, count),
      ],
    });
  }

  makeUpstreams() {
    return new Table(at("upstreams-table"), {
      label: "Targets of upstreams", key: (r) => targetKey(r.upstream, r.target), sort: { key: "upstream" }, empty: "No target is like that.",
      columns: [
        { key: "upstream", label: "Upstream", value: (r) => r.upstream.name },
        { key: "target", label: "Target", value: (r) => targetName(r.target), show: (v, r) => (r.target.tls ? `${v} (TLS)` : v) },
        { key: "state", label: "State", value: (r) => `${{ bad: 0, warn: 1 }[r.tone] ?? 2}${r.state}`, draw: state, wide: true },
        { key: "breaker", label: "Breaker", value: (r) => r.target.breaker },
        num("requests", "Req/s", (r) => r.requests, rate),
        num("failures", "Failed/s", (r) => r.failures, rate, { tone: (r) => (r.failures > 0 ? "bad" : "") }),
        num("flight", "In flight", (r) => r.target.in_flight, count),
        num("connections", "Connections", (r) => r.target.connections, (v, r) => `${count(v)} (${count(r.target.idle)} idle)`, { opt: true }),
        num("weight", "Weight", (r) => r.target.weight, count, { opt: true }),
        num("opened", "Opened", (r) => r.target.opened, count, { title: "How often its breaker opened", opt: true }),
        num("ejections", "Ejected", (r) => r.target.ejections, count, { title: "How often it was ejected", opt: true }),
        num("moved", "Moved", (r) => r.target.moved ?? 0, count, { title: "Requests that left a shared connection, and were sent once more", opt: true }),
        num("total", "Total", (r) => r.target.requests, count, { opt: true }),
        num("failed", "Failed", (r) => r.target.failures, count, { opt: true }),
      ],
    });
  }

  makeLimits() {
    return new Table(at("limits-table"), {
      label: "Limits", key: (r) => r.name, sort: { key: "refused", down: true }, empty: "No limits are configured.",
      columns: [
        { key: "name", label: "Limit", value: (r) => r.name },
        { key: "key", label: "Counts by", value: (r) => (r.key?.length ? r.key.join(", ") : "all together"), opt: true },
        { key: "rate", label: "Rate", value: (r) => r.rate, show: (v, r) => (r.burst ? `${v}, burst ${count(r.burst)}` : v) },
        { key: "kind", label: "Kind", value: (r) => [reason(r.algorithm), r.before_auth && "guard", r.mode === "shadow" && "shadow", r.scope === "redis" && (r.degraded ? `in Redis, ${count(r.degraded)} without it` : "in Redis"), r.scope === "cluster" && "shared"].filter(Boolean).join(", "), opt: true },
        { key: "worst", label: "Most limited", value: (r) => r.worst ?? "", wide: true },
        num("refused", "Refused", (r) => r.refused, count),
        num("would", "Would refuse", (r) => r.would_refuse, count, { title: "Requests that a shadow let pass", opt: true }),
        { key: "act", label: "", title: "Actions", value: () => "", draw: (e, r) => button(e, "Reset", r, (row) => this.act.reset(row.name)) },
      ],
    });
  }

  makeOffenders() {
    return new Table(at("offenders-table"), {
      label: "Clients", key: (r) => `${r.client ?? ""} ${r.address ?? ""}`, sort: { key: "count", down: true }, empty: "Nobody yet.",
      columns: [
        { key: "who", label: "Client or address", value: (r) => r.client || r.address, wide: true },
        { key: "limit", label: "By limit", value: (r) => r.limit ?? "" },
        num("count", "Count", (r) => r.count, (v) => (this.offended === "slow" ? `${count(v)} ms` : count(v)), { title: "Of the last five to ten minutes" }),
        { key: "act", label: "", title: "Actions", value: () => "", draw: (e, r) => this.offenderActions(e, r) },
      ],
    });
  }

  offenderActions(e, row) {
    e.row = row;
    if (!e.firstChild) {
      e.append(h("button", { type: "button", class: "link", click: () => this.act.reset(e.row.limit, e.row) }, "Reset"), " ",
        h("button", { type: "button", class: "link", click: () => this.act.revoke(e.row.client) }, "Revoke"));
    }
    e.firstChild.hidden = !row.limit;
    e.lastChild.hidden = !row.client;
  }

  makeCluster() {
    return new Table(at("cluster-table"), {
      label: "Peers", key: (r) => `${r.name} ${r.address}`, sort: { key: "name" }, empty: "No peers yet.",
      columns: [
        { key: "name", label: "Peer", value: (r) => r.name },
        { key: "address", label: "Address", value: (r) => r.address, narrowOff: true },
        { key: "state", label: "State", value: (r) => r.state, draw: (e, r) => state(e, { state: r.state, tone: peerTone(r.state), why: r.error }), wide: true },
        num("lag", "Lag ms", (r) => r.lag_ms, millis, { title: "Age of what was last heard of it" }),
        num("rtt", "Round trip ms", (r) => r.rtt_ms, millis),
        num("loss", "Loss %", (r) => r.loss, percent, { tone: (r) => (r.loss > 0.05 ? "warn" : "") }),
      ],
    });
  }

  drawMain(moved) {
    const words = (id) => at(id).value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (text, all) => all.every((w) => text.toLowerCase().includes(w));
    const [want, active] = [words("routes-filter"), at("routes-active").checked];
    const routes = this.model.routeRows();
    const shown = routes.filter((r) => holds([r.name, r.route.path, r.route.to, ...(r.route.hosts ?? [])].join(" "), want) && (!active || r.requests > 0));
    this.routes.update(shown, moved);
    text(at("routes-note"), shown.length === routes.length ? plural(routes.length, "route") : `${count(shown.length)} of ${plural(routes.length, "route")}`);
    const [wanted, sick] = [words("upstreams-filter"), at("upstreams-sick").checked];
    const targets = this.model.targetRows();
    const left = targets.filter((r) => holds([r.upstream.name, targetName(r.target), r.state, r.target.breaker].join(" "), wanted) && (!sick || r.tone !== "good"));
    this.upstreams.update(left, moved);
    const all = (key) => this.model.status.upstreams.reduce((n, u) => n + (u[key] ?? 0), 0);
    text(at("upstreams-note"), [
      `${plural(targets.length, "target")} of ${plural(this.model.status.upstreams.length, "upstream")}`, `${plural(all("retries"), "retry", "retries")} in all`,
      all("retries_refused") && `${count(all("retries_refused"))} beyond the budget`, all("waiting") && `${plural(all("waiting"), "request")} wait for room`,
    ].filter(Boolean).join(", "));
  }

  drawLimits() {
    const worst = new Map();
    for (const o of this.model.status.offenders?.limited ?? []) if (o.limit && !worst.has(o.limit)) worst.set(o.limit, `${o.client || o.address} (${count(o.count)})`);
    this.limits.update((this.model.status.limits ?? []).map((l) => ({ ...l, worst: worst.get(l.name) })));
    const [revoked, store] = [this.model.status.revocations, this.model.status.limit_store];
    text(at("limits-note"), [
      `${plural(revoked.in_force, "revocation")} in force${revoked.known ? "" : "; the store has not been heard yet"}`,
      store && `Redis ${store.up ? "decides" : "is down"}: ${count(store.asked)} asked, ${count(store.failed)} failed, ${count(store.lost)} lost`,
    ].filter(Boolean).join(" · "));
  }

  drawOffenders(moved) {
    this.offenders.update(this.model.status.offenders?.[this.offended] ?? [], moved);
  }

  drawCluster() {
    const c = this.model.status.cluster;
    at("cluster").hidden = at("nav-cluster").hidden = !c;
    if (!c) return;
    this.cluster.update(c.peers ?? []);
    const dropped = Object.entries(c.dropped ?? {}).filter(([, n]) => n > 0).map(([why, n]) => `${reason(why)} ${count(n)}`).join(", ");
    text(at("cluster-note"), [
      `${c.name} shares ${(c.rules ?? []).join(", ") || "no limits"}`, `in ${bytes(c.bytes_in)}, out ${bytes(c.bytes_out)}`,
      `${count(Math.round(c.excess))} let pass beyond limits`, dropped && `dropped: ${dropped}`,
    ].filter(Boolean).join(" · "));
  }
}

function drawConfig(s, now) {
  const c = s.config;
  const when = (date) => `${ago((now - Date.parse(date)) / 1000)}, ${moment(new Date(date))}`;
  facts(at("config"), [
    ["file", h("code", {}, c.path)], ["hash", h("code", {}, c.hash)], ["live", when(c.loaded)],
    ["reloads", `${count(c.reloads)} good, ${count(c.reload_failures)} failed`],
    c.last_failure && ["last failure", when(c.last_failure)], c.last_error && ["last error", h("pre", {}, c.last_error)],
    ["version", s.version], ["started", when(s.started)],
  ]);
}

function drawAuth(s, now) {
  const rows = (s.auth ?? []).map((m) => {
    const why = [
      m.keys && plural(m.keys, "key"), m.last_success && `fetched ${ago((now - Date.parse(m.last_success)) / 1000)}`,
      (m.verified || m.cache_hits) && `${count(m.verified ?? 0)} verified, ${count(m.cache_hits ?? 0)} remembered`, m.refused && `${count(m.refused)} refused`, m.last_error,
    ].filter(Boolean).join(" · ");
    return h("li", {}, h("span", {}, m.name), badge(m.usable ? "usable" : "cannot be judged", m.usable ? (m.last_error ? "warn" : "good") : "bad"), why && h("span", { class: "why" }, why));
  });
  fill(at("auth"), rows.length ? rows : [h("li", { class: "none" }, "No route asks for credentials.")]);
}

function drawCertificates(s, now) {
  const rows = Object.entries(s.certificates ?? {}).sort((a, b) => Date.parse(a[1]) - Date.parse(b[1])).map(([name, end]) => {
    const days = (Date.parse(end) - now) / 86400e3;
    const [word, t] = days <= 0 ? ["expired", "bad"] : days < 14 ? ["ends soon", "warn"] : ["valid", "good"];
    return h("li", {}, h("span", {}, name), badge(word, t), h("span", { class: "why" }, `${days > 0 ? `${span(Math.floor(days) * 86400 || days * 86400)} left, until` : "since"} ${moment(new Date(end))}`));
  });
  fill(at("certificates"), rows.length ? rows : [h("li", { class: "none" }, "No TLS here.")]);
}
