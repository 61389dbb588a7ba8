// What an operator can do. Everything is confirmed first, and its outcome is told.

import { fill, h, text, tone } from "./dom.js";
import { plural, span } from "./format.js";
import { ask, setToken } from "./stream.js";

// dialog opens a modal window and returns it; it is gone when it is closed.
export function dialog(attributes, ...children) {
  const d = h("dialog", attributes, ...children);
  d.addEventListener("close", () => d.remove());
  document.body.append(d);
  d.showModal();
  return d;
}

let numbers = 0;
const named = () => `title-${++numbers}`;

// form asks for confirmation. run does it, and returns what to say of it.
function form({ title, about, fields = [], button, danger, run, more }) {
  const id = named();
  const outcome = h("div", { class: "outcome", role: "status" });
  const confirm = h("button", { type: "submit", class: danger ? "primary danger" : "primary" }, button);
  const cancel = h("button", { type: "button", click: () => d.close() }, "Cancel");
  const submit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      const said = await run(new FormData(event.target));
      tone(outcome, "good");
      fill(outcome, [h("p", {}, said)]);
      text(cancel, "Close");
      if (!more) confirm.hidden = true;
    } catch (e) {
      tone(outcome, "bad");
      fill(outcome, [h("p", {}, "This was not done:"), h("pre", {}, e.message)]);
    }
    confirm.disabled = false;
  };
  const d = dialog({ "aria-labelledby": id }, h("form", { submit }, h("h2", { id }, title), ...about.map((p) => h("p", {}, p)), ...fields, outcome, h("div", { class: "buttons" }, cancel, confirm)));
  return d;
}

const field = (label, input) => h("label", { class: "field" }, h("span", {}, label), input);
const input = (name, more = {}) => h("input", { name, autocomplete: "off", spellcheck: "false", ...more });

export function reload() {
  form({
    title: "Reload the configuration?", button: "Reload",
    about: ["The file is read again and compiled. If anything in it is wrong, all faults are shown here and nothing changes."],
    run: async () => `Configuration ${(await ask("POST", "/reload")).config.slice(0, 8)} is live.`,
  });
}

export function drain() {
  form({
    title: "Drain this gateway?", button: "Drain", danger: true,
    about: ["Readiness goes red, the listeners close, requests under way are finished, and then the process exits.", "Unless something starts it again, it is gone: this cannot be undone from here."],
    run: async () => (await ask("POST", "/drain"), "It drains. This page ends with it."),
  });
}

const words = { jti: "a token, by its jti", sub: "all tokens of a subject", client: "a client", key: "an API key, by its id" };

export function revoke(client = "") {
  const kind = h("select", { name: "kind" }, ...Object.entries(words).map(([value, label]) => h("option", { value, selected: value === "client" }, label)));
  form({
    title: "Revoke", button: "Revoke", danger: true,
    about: ["It is refused from the next request on, and what it has opened is closed. There is no way to take this back."],
    fields: [
      field("What", kind), field("Its id or name", input("id", { required: true, value: client })),
      field("Issuer: the name of its table (for a jti or sub, if there are several)", input("issuer")),
      field("Only what was issued before (empty: all)", input("before", { type: "datetime-local", step: "1" })),
    ],
    run: async (data) => {
      const body = { [data.get("kind")]: data.get("id").trim() };
      if (data.get("issuer").trim()) body.issuer = data.get("issuer").trim();
      if (data.get("before")) body.before = new Date(data.get("before")).toISOString();
      const kept = await ask("POST", "/revocations", body);
      return `Revoked: ${data.get("kind")} ${data.get("id")}${kept.expires ? `, until ${kept.expires.slice(0, 10)}` : ""}.`;
    },
  });
}

// reset fills the bucket of a key. A client that was limited is filled in where the limit counts by it.
export function reset(limits, name, who) {
  if (!limits.length) return form({ title: "Reset a limit", about: ["No limits are configured."], button: "Close", run: async () => "" });
  const limit = h("select", { name: "limit" }, ...limits.map((l) => h("option", { value: l.name, selected: l.name === name }, l.name)));
  const keys = h("div");
  const state = h("p", { class: "outcome", role: "status" });
  const chosen = () => limits.find((l) => l.name === limit.value);
  const guess = (part) => (part === "client" ? who?.client || who?.address : part === "ip" ? who?.address : "") ?? "";
  const draw = () => {
    const l = chosen();
    keys.replaceChildren(...(l.key ?? []).map((part) => field(part, input("key", { value: guess(part) }))), ...(l.key?.length ? [] : [h("p", { class: "field" }, "All requests share one bucket.")]));
    text(state, "");
  };
  const path = (data) => `/limits/${encodeURIComponent(data.get("limit"))}?${new URLSearchParams(data.getAll("key").map((v) => ["key", v]))}`;
  const look = async (event) => {
    const data = new FormData(event.target.form);
    try {
      const { buckets } = await ask("GET", path(data));
      tone(state, "");
      text(state, buckets.length ? buckets.map((b) => `${b.remaining} of ${b.limit} left at ${b.rate}${b.tier ? ` (${b.tier})` : ""}, full in ${span(b.reset_seconds)}`).join("; ") : "It is full: nothing was taken lately.");
    } catch (e) {
      tone(state, "bad");
      text(state, e.message);
    }
  };
  limit.addEventListener("change", draw);
  draw();
  form({
    title: "Reset a limit", button: "Fill the bucket", more: true,
    about: ["The bucket of this key is filled, as if nothing had been taken from it."],
    fields: [field("Limit", limit), keys, h("p", { class: "field" }, h("button", { type: "button", click: look }, "Look first")), state],
    run: async (data) => {
      const { reset: n } = await ask("DELETE", path(data));
      return n ? `${plural(n, "bucket")} filled.` : "Nothing to fill: the bucket is full.";
    },
  });
}

// unlock asks for the token until there is one. It resolves when there is another to try.
export function unlock(wrong) {
  return new Promise((resolve) => {
    const id = named();
    const submit = (event) => {
      event.preventDefault();
      setToken(new FormData(event.target).get("token").trim());
      d.done = true;
      d.close();
      d.remove();
      resolve();
    };
    const d = dialog({ "aria-labelledby": id, cancel: (e) => e.preventDefault() },
      h("form", { submit, id: "unlock" }, h("h2", { id }, "This gateway wants its token"), h("p", {}, "It is the token of [admin] in the configuration. It stays in this tab, until that is closed."),
        h("div", { class: "outcome", role: "alert", "data-tone": "bad" }, wrong ? "The gateway does not take that token." : ""),
        field("Token", input("token", { type: "password", required: true, autofocus: true })),
        h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Continue"))));
    d.addEventListener("close", () => d.done || resolve());
  });
}
