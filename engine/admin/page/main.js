// The status page: pictures come in, and are drawn.

import * as actions from "./actions.js";
import { Charts } from "./charts.js";
import { Detail } from "./detail.js";
import { at, text, tone } from "./dom.js";
import { clock } from "./format.js";
import { Model } from "./model.js";
import { drawOverview } from "./overview.js";
import { follow } from "./stream.js";
import { Tables } from "./tables.js";

const model = new Model();
const detail = new Detail();
const charts = new Charts(at);
const act = {
  open: (name) => (location.hash = `route=${encodeURIComponent(name)}`),
  reset: (name, who) => actions.reset(model.status?.limits ?? [], name, who),
  revoke: actions.revoke,
};
const tables = new Tables(act);

function draw() {
  const now = Date.now();
  drawOverview(model, now);
  charts.update(model);
  tables.update(model, now);
  detail.update(model);
}

// tell has what is new read aloud.
let told = 0;
function tell() {
  const fresh = model.changes.filter((c) => c.at > told && told > 0);
  told = Math.max(told, model.changes[0]?.at ?? 1, 1);
  if (fresh.length) text(at("announce"), fresh.slice(0, 3).map((c) => c.what).join(". "));
}

function banner(words, t = "bad") {
  tone(at("banner"), t);
  text(at("banner"), words);
  at("banner").hidden = !words;
}

let seen = null;
follow({
  picture(status) {
    seen = new Date();
    model.add(status, seen.getTime());
    tell();
    banner("");
    if (document.visibilityState === "visible") draw();
    if (location.hash.startsWith("#route=") && !detail.dialog) openRoute();
  },
  lost(why) {
    banner(`No word from the gateway: ${why}.${seen ? ` What is shown is of ${clock(seen)}.` : ""} Trying again.`);
    text(at("state"), "unreachable");
    tone(at("state"), "bad");
  },
  async locked(wrong) {
    text(at("state"), "locked");
    tone(at("state"), "warn");
    await actions.unlock(wrong);
  },
});

function openRoute() {
  if (!model.status) return;
  if (location.hash.startsWith("#route=")) detail.open(model, decodeURIComponent(location.hash.slice(7)));
}
addEventListener("hashchange", openRoute);
document.addEventListener("visibilitychange", () => model.status && document.visibilityState === "visible" && draw());

const does = { reload: actions.reload, drain: actions.drain, revoke: () => actions.revoke(), reset: () => act.reset(), explain: () => model.status && detail.open(model, "") };
for (const b of document.querySelectorAll("[data-action]")) b.addEventListener("click", () => does[b.dataset.action]());

// The switch of themes: the system's, light, dark.
const themes = ["auto", "light", "dark"];
function showTheme() {
  const now = document.documentElement.dataset.theme ?? "auto";
  text(at("theme"), { auto: "◐", light: "☀", dark: "☾" }[now]);
  at("theme").setAttribute("aria-label", `Theme: ${now === "auto" ? "as the system" : now}. Change it`);
  at("theme").title = at("theme").getAttribute("aria-label");
}
at("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("sluice-theme", next);
  showTheme();
  if (model.status) draw();
});
showTheme();
