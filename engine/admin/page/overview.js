// What an operator sees first: three answers, and the key figures.

import { at, badge, bar, fill, h, share, text, tone } from "./dom.js";
import { ago, clock, count, millis, moment, percent, plural, rate, reason, span } from "./format.js";
import { targetName } from "./model.js";

export function drawOverview(model, now) {
  drawHeader(model.status);
  drawSick(model);
  drawRefused(model);
  drawChanged(model, now);
  drawFigures(model);
}

function drawHeader(s) {
  text(at("state"), s.state);
  tone(at("state"), s.state === "serving" ? "good" : "warn");
  const pair = (name, value, c, title) => h("div", { class: c, title }, h("dt", {}, name), h("dd", {}, value));
  fill(at("identity"), [
    s.cluster && pair("node", s.cluster.name),
    pair("version", s.version),
    pair("config", h("code", {}, s.config.hash.slice(0, 8)), "", s.config.path),
    pair("up", span(Math.floor(s.uptime_seconds / 60) * 60 || s.uptime_seconds), "opt", moment(new Date(s.started))),
  ]);
  document.title = `${s.state === "serving" ? "" : `${s.state}: `}Sluice${s.cluster ? ` · ${s.cluster.name}` : ""}`;
}

function answer(id, t, verdict, items) {
  const e = at(id);
  tone(e, t);
  text(e.querySelector(".verdict"), verdict);
  fill(e.querySelector(".items"), items);
}

const line = (left, why, right) => h("li", {}, h("span", {}, left, why && h("span", { class: "why" }, ` ${why}`)), right);

function drawSick(model) {
  const rows = model.targetRows();
  const sick = rows.filter((r) => r.tone !== "good").sort((a, b) => (a.tone < b.tone ? -1 : a.tone > b.tone ? 1 : 0));
  const items = sick.map((r) => line(`${r.upstream.name}: ${targetName(r.target)}`, r.why, badge(r.state, r.tone)));
  const judged = (model.status.auth ?? []).filter((m) => !m.usable);
  for (const m of judged) items.push(line(m.name, m.last_error ?? "", badge("cannot be judged", "bad")));
  const storeless = model.status.limit_store?.up === false;
  if (storeless) items.push(line("limits in Redis", "each follows its on_store_error", badge("Redis is down", "bad")));
  // A target that fails now and then is not sick yet, but hurts.
  for (const r of rows.filter((r) => r.tone === "good" && r.failures > 0).sort((a, b) => b.failures - a.failures)) {
    items.push(line(`${r.upstream.name}: ${targetName(r.target)}`, `fails ${rate(r.failures)}/s of ${rate(r.requests)}/s`, badge("failing", "warn")));
  }
  const lost = model.status.upstreams.flatMap((u) => (u.names ?? []).map((n) => [u, n]));
  for (const [u, n] of lost) items.push(line(`${u.name}: ${n.name}`, `${n.error}; ${plural(n.targets, "address", "addresses")} known`, badge("cannot be looked up", "warn")));
  const bad = sick.filter((r) => r.tone === "bad");
  const hurt = [...new Set(bad.map((r) => r.upstream))].map((u) => ({ name: u.name, out: bad.filter((r) => r.upstream === u).length, of: u.targets.length })).sort((a, b) => b.out / b.of - a.out / a.of);
  if (hurt.length) {
    const words = hurt.slice(0, 2).map((u) => (u.out === u.of ? `${u.name}: no target left` : `${u.name}: ${u.out} of ${u.of} out`)).join("; ");
    answer("sick", "bad", hurt.length > 2 ? `${words}; ${hurt.length - 2} more` : words, items);
  } else if (storeless) {
    answer("sick", "bad", "Redis does not decide limits", items);
  } else if (judged.length) {
    answer("sick", "bad", `${judged.map((m) => m.name).join(", ")} cannot be judged`, items);
  } else if (items.length) {
    answer("sick", "warn", lost.length ? `${lost.map(([, n]) => n.name).join(", ")} cannot be looked up` : `${plural(items.length, "target")} of ${count(rows.length)} in trouble`, items);
  } else {
    answer("sick", "good", `None: ${plural(rows.length, "target")} of ${plural(model.status.upstreams.length, "upstream")} ${rows.length === 1 ? "is" : "are"} well`, wellItems(rows));
  }
}

// wellItems are the busiest upstreams, for there is nothing worse to tell of.
function wellItems(rows) {
  const all = new Map();
  for (const r of rows) {
    const u = all.get(r.upstream.name) ?? { targets: 0, requests: 0 };
    all.set(r.upstream.name, { targets: u.targets + 1, requests: u.requests + (r.requests ?? 0) });
  }
  return [...all].sort((a, b) => b[1].requests - a[1].requests).slice(0, 5).map(([name, u]) => line(name, "", h("span", { class: "num" }, `${rate(u.requests)}/s · ${plural(u.targets, "target")}`)));
}

function drawRefused(model) {
  const reasons = model.refusals();
  const all = reasons.reduce((n, r) => n + r[1], 0);
  const items = reasons.map(([name, per, n]) => bar(share(per, all), h("span", {}, reason(name)), h("span", { class: "num" }, `${rate(per)}/s · ${plural(n, "request")}`)));
  for (const o of (model.status.offenders?.limited ?? []).slice(0, 3)) {
    items.push(line(o.client || o.address, o.limit ? `limited by ${o.limit}` : "limited", h("span", { class: "num" }, `${count(o.count)} lately`)));
  }
  for (const o of (model.status.offenders?.refused ?? []).slice(0, 2)) {
    items.push(line(o.client || o.address, "refused for its credentials", h("span", { class: "num" }, `${count(o.count)} lately`)));
  }
  if (!reasons.length) return answer("refused", "good", "Nobody, in the last minute", [...items, ...pastItems(model)]);
  const server = reasons.some(([name]) => /^(upstream|no_healthy|circuit|internal|auth_store|queue_full)/.test(name));
  answer("refused", server ? "bad" : "warn", `${rate(all)}/s, mostly ${reason(reasons[0][0])} (${percent(model.refusedShare())}\u00a0%)`, items);
}

// pastItems are the refusals since the start.
function pastItems(model) {
  return Object.entries(model.total.refusals).sort((a, b) => b[1] - a[1]).slice(0, 4).map(([name, n]) => line(h("span", { class: "why" }, reason(name)), "", h("span", { class: "num" }, `${count(n)} since the start`)));
}

function drawChanged(model, now) {
  const items = model.changes.slice(0, 40).map((c) => {
    const date = new Date(c.at);
    return h("li", { class: "change" }, h("span", {}, c.tone === "bad" ? h("strong", {}, c.what) : c.what, c.why && h("span", { class: "why" }, ` ${c.why}`)),
      h("time", { datetime: date.toISOString(), title: moment(date) }, now - c.at < 86400e3 ? clock(date) : moment(date).slice(0, 10)));
  });
  const config = model.status.config;
  const failed = config.last_failure && Date.parse(config.last_failure) > Date.parse(config.loaded);
  const latest = model.changes[0];
  const fresh = latest && now - latest.at < 600e3;
  if (failed) answer("changed", "bad", `A reload failed ${ago((now - Date.parse(config.last_failure)) / 1000)}`, items);
  else if (!latest) answer("changed", "", "Nothing", items);
  else if (fresh) answer("changed", latest.tone || "good", `${ago((now - latest.at) / 1000)}: ${latest.what}`, items);
  else answer("changed", "", `Nothing lately; last ${ago((now - latest.at) / 1000)}`, items);
}

function drawFigures(model) {
  const [r, t, s] = [model.rates(), model.total, model.status];
  const d = t.duration ?? {};
  const errors = r?.requests ? r.errors / r.requests : 0;
  fill(at("figures"), [
    ["requests", rate(r?.requests), "/s"],
    ["answered 5xx", r ? percent(errors) : "–", "%", errors > 0.01 ? "bad" : errors > 0 ? "warn" : ""],
    ["refused", rate(r?.refused), "/s", r?.refused > 0 ? "warn" : ""],
    ["p50", millis(d.p50), "ms"], ["p95", millis(d.p95), "ms"], ["p99", millis(d.p99), "ms"],
    ["overhead p99", millis(t.overhead?.p99), "ms"],
    ["in flight", count(t.in_flight)],
    ["connections", count(s.connections)],
    ["requests in all", count(s.requests)],
  ].map(([name, value, unit, why]) => h("div", { "data-tone": why, "data-figure": name }, h("dt", {}, name), h("dd", {}, value, unit && value !== "–" && h("small", {}, unit)))));
}
