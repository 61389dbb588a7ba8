// A route looked at closely, and what the gateway would do with a request.

import { dialog } from "./actions.js";
import { RouteCharts } from "./charts.js";
import { at, bar, fill, h, share, text, tone } from "./dom.js";
import { bytes, count, millis, percent, plural, rate, reason } from "./format.js";
import { ask } from "./stream.js";

// Detail is the drawer that shows one route, or explains a request to none in particular.
export class Detail {
  // open shows a route; without a name, only the form.
  open(model, name) {
    this.close();
    this.name = name;
    model.watched = name;
    const r = model.status.routes.find((r) => r.name === name);
    if (name && !r) return;
    this.figures = h("dl", { class: "grid" });
    this.reasons = h("ul", { class: "shares" });
    const [rates, latency] = [h("figure"), h("figure")];
    this.dialog = dialog({ class: "drawer", "aria-labelledby": "detail-title" },
      h("div", { class: "top" }, h("h2", { id: "detail-title" }, name ? `Route ${name}` : "Explain a request"), h("button", { type: "button", click: () => this.close() }, "Close")),
      h("div", { class: "body" }, ...(r ? [chips(r), this.figures, h("h3", {}, "Requests per second"), rates, h("h3", {}, "Latency, milliseconds"), latency, h("h3", {}, "Refusals since the start"), this.reasons, h("h3", {}, "What would happen to a request?")] : []), explainer(r)));
    this.charts = r && new RouteCharts(rates, latency);
    const opened = this.dialog;
    opened.addEventListener("close", () => opened === this.dialog && this.closed()); // it may come after the next one has opened
    this.update(model);
  }

  close() {
    this.dialog?.close();
  }

  closed() {
    this.dialog = null;
    if (this.name && location.hash === `#route=${encodeURIComponent(this.name)}`) history.replaceState(null, "", location.pathname);
  }

  update(model) {
    if (!this.dialog || !this.name) return;
    const row = model.routeRows().find((r) => r.name === this.name);
    if (!row) return text(at("detail-title"), `Route ${this.name}: it is gone`);
    const t = row.traffic;
    facts(this.figures, [
      ["requests/s", rate(row.requests)], ["5xx %", percent(row.errors)], ["refused/s", rate(row.refused)], ["in flight", count(t.in_flight)], ["requests", count(t.requests)],
      ...["2xx", "3xx", "4xx", "5xx"].filter((c) => t.statuses?.[c]).map((c) => [c, count(t.statuses[c])]),
      ["in", bytes(t.bytes_in)], ["out", bytes(t.bytes_out)],
      ["p50 ms", millis(t.duration?.p50)], ["p95 ms", millis(t.duration?.p95)], ["p99 ms", millis(t.duration?.p99)],
      ["upstream p99", millis(t.upstream?.p99)], ["own p99", millis(t.overhead?.p99)],
    ]);
    const reasons = Object.entries(t.refusals ?? {}).sort((a, b) => b[1] - a[1]);
    const all = reasons.reduce((n, [, v]) => n + v, 0);
    fill(this.reasons, reasons.length ? reasons.map(([name, n]) => bar(share(n, all), h("span", {}, reason(name)), h("span", { class: "num" }, count(n)))) : [h("li", {}, "None.")]);
    this.charts.update(model, this.name);
  }
}

function facts(e, pairs) {
  fill(e, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function chips(r) {
  const chip = (name, value) => value && h("li", {}, h("span", {}, `${name} `), value);
  return h("ul", { class: "chips", "aria-label": "As configured" }, ...[
    chip("path", r.path), chip("hosts", (r.hosts ?? []).join(", ") || "any"), chip("methods", (r.methods ?? []).join(", ") || "any"), chip("auth", (r.auth ?? []).join(" or ")), chip("to", r.to),
  ].filter(Boolean));
}

// example is a URL that the route may take.
function example(r) {
  if (!r) return "/";
  const host = (r.hosts ?? [])[0]?.replace(/^\*/, "any");
  const path = r.path.replace(/\{[^}]*\}/g, "1").replace(/\*$/, "");
  return host ? `http://${host}${path}` : path;
}

function explainer(r) {
  const answer = h("div", { "aria-live": "polite" });
  const field = (label, e, c = "field") => h("label", { class: c }, h("span", {}, label), e);
  const text = (name, value) => h("input", { name, value, autocomplete: "off", spellcheck: "false", class: "mono" });
  const submit = async (event) => {
    event.preventDefault();
    const data = new FormData(event.target);
    const query = new URLSearchParams({ method: data.get("method").trim(), url: data.get("url").trim() });
    for (const line of data.get("headers").split("\n")) if (line.trim()) query.append("header", line.trim());
    if (data.get("client").trim()) query.set("client", data.get("client").trim());
    try {
      fill(answer, [steps(await ask("GET", `/explain?${query}`))]);
    } catch (e) {
      fill(answer, [h("p", { class: "outcome", "data-tone": "bad" }, e.message)]);
    }
  };
  return h("form", { submit, class: "explainer" }, h("div", { class: "ask" },
    field("Method", text("method", (r?.methods ?? [])[0] ?? "GET")), field("URL", text("url", example(r))), h("button", { type: "submit", class: "primary" }, "Explain"),
    field("Headers, one a line", h("textarea", { name: "headers", rows: "2", spellcheck: "false", class: "mono", placeholder: "X-API-Key: any" }), "field all"), field("Client's address (empty: yours)", text("client", ""), "field all")), answer);
}

// steps tells an explanation in the order of a request's way.
function steps(e) {
  const list = [];
  const step = (name, ...parts) => list.push(h("li", {}, h("span", { class: "step" }, name), h("span", {}, ...parts)));
  const good = (word, t) => h("span", { "data-tone": t }, word);
  if (e.refusal) step("verdict", good(`${e.refusal.status} ${e.refusal.reason}`, "bad"), `: ${e.refusal.detail}`);
  else step("verdict", good("forwarded", "good"), ` by route ${e.route.name}`);
  if (e.provided.length && !e.refusal) step("provided", e.provided.join(", and "));
  step("request", h("code", {}, `${e.method} ${e.host}${e.path}${e.query ?? ""}`));
  if (e.client) step("client", e.client);
  if (e.route) {
    step("route", `${e.route.name} (${e.route.pattern})`, ...(e.route.captures ?? []).map((c) => `, ${c.name} = ${c.value}`));
    step("access", ...(e.methods.length ? [e.methods.map((m) => `${m.name} in ${m.header}: ${m.shown}`).join("; ")] : ["everybody may pass"]));
    if (e.route.scopes?.length) step("scopes", e.route.scopes.join(" and "));
  }
  for (const l of e.limits) step("limit", `${l.name}: ${reason(l.algorithm)} ${l.rate}${l.burst ? `, burst ${l.burst}` : ""}; ${l.key.map((k) => `${k.part} = ${k.value}${k.note ? `(${k.note})` : ""}`).join(", ") || "one bucket for all"}${l.guard ? "; before authentication" : ""}${l.mode === "shadow" ? "; counts only" : ""}`);
  for (const c of e.choices) step("choice", `${c.name}: ${c.by}${c.value ? ` "${c.value}"` : ""}${c.to ? ` → ${c.to}` : ""}${c.share < 1 ? ` (reached by ${percent(c.share)} %)` : ""}`);
  for (const u of e.upstreams) step("upstream", u.name ? `${percent(u.share)} % ${u.name}: ${u.targets.map((t) => t.url).join(", ")}` : `${percent(u.share)} % go nowhere: 404`);
  if (e.forwarded.length) step("sent", h("pre", {}, e.forwarded.join("\n")), ...(e.withheld.length ? [`without ${e.withheld.join(", ")}`] : []));
  for (const m of e.near_misses.slice(0, 5)) step("not", `${m.route} (${m.pattern}): ${m.reason}`);
  if (e.near_misses.length > 5) step("not", plural(e.near_misses.length - 5, "other route"));
  return h("ol", { class: "steps" }, ...list);
}
