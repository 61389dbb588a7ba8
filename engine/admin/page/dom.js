// Elements, made of text alone: nothing that comes from the gateway is ever markup.

// h makes an element. Attributes that are null or false are left out; functions are listeners.
export function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") e.addEventListener(name, value);
    else if (value === true) e.setAttribute(name, "");
    else if (value != null && value !== false) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c != null && c !== false));
  return e;
}

export const at = (id) => document.getElementById(id);

// text sets an element's text, if it differs: what is selected or read aloud stays so.
export function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

export function tone(e, value) {
  if ((e.dataset.tone ?? "") === (value ?? "")) return;
  if (value) e.dataset.tone = value;
  else delete e.dataset.tone;
}

// badge tells a state by word, shape and colour.
export const badge = (word, t) => h("span", { class: "badge", "data-tone": t }, word);

// fill replaces the children of e, unless they would read the same.
export function fill(e, children) {
  const list = children.filter((c) => c != null && c !== false);
  const same = list.length === e.children.length && list.every((c, i) => c.isEqualNode(e.children[i]));
  if (!same) e.replaceChildren(...list);
}

// facts fills a description list.
export function facts(e, pairs) {
  fill(e, pairs.filter((p) => p && p[1] != null && p[1] !== "").flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export const share = (part, whole) => (whole > 0 ? Math.max(0, Math.min(1, part / whole)) : 0);

// bar is a line with a bar behind it, as long as its share.
export function bar(width, left, right) {
  const f = h("span", { class: "fill", "aria-hidden": "true" });
  f.style.width = `calc(${(100 * width).toFixed(1)}% + 8px)`;
  return h("li", { class: "meter" }, left, right, f);
}
