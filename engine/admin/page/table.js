// A table whose rows stay the same elements while their numbers change, and that is sorted by any column.

import { h, text, tone } from "./dom.js";

const MOST = 200; // rows that are drawn

// A column is {key, label, value(row)}, and maybe: title, num, opt (left out when narrow), narrowOff (left out on a
// phone), wide, down (sorts downward first), draw(cell, row) for what is no plain text, tone(row), show(value).
export class Table {
  constructor(host, { label, columns, key, sort, empty }) {
    Object.assign(this, { columns, key, empty, rows: [], made: new Map(), order: [] });
    this.sort = { column: columns.find((c) => c.key === sort.key), down: sort.down ?? false };
    this.headers = columns.map((c) => this.header(c));
    this.body = h("tbody");
    this.table = h("table", { class: "data", "aria-label": label }, h("thead", {}, h("tr", {}, ...this.headers)), this.body);
    host.replaceChildren(this.table);
    this.mark();
  }

  header(column) {
    const names = classes(column);
    if (!column.label) return h("th", { scope: "col", class: names }, h("span", { class: "unseen" }, column.title ?? ""));
    const press = () => {
      this.sort = { column, down: this.sort.column === column ? !this.sort.down : (column.down ?? false) };
      this.mark();
      this.draw(true);
    };
    return h("th", { scope: "col", class: names, title: column.title }, h("button", { type: "button", click: press }, column.label));
  }

  mark() {
    this.columns.forEach((c, i) => {
      if (c === this.sort.column) this.headers[i].setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else this.headers[i].removeAttribute("aria-sort");
    });
  }

  // update shows these rows.
  update(rows, moved = false) {
    this.rows = rows;
    this.draw(moved);
  }

  // draw keeps the order while somebody points at a row or is on a button of one, unless it must not.
  draw(moved) {
    const shown = this.sorted(!moved && this.body.matches(":hover, :focus-within"));
    const used = new Set();
    const elements = shown.slice(0, MOST).map((row) => {
      const key = this.key(row);
      used.add(key);
      if (!this.made.has(key)) this.made.set(key, this.row());
      const e = this.made.get(key);
      this.columns.forEach((c, i) => cell(e.cells[i], c, row));
      return e;
    });
    for (const key of this.made.keys()) if (!used.has(key)) this.made.delete(key);
    if (!shown.length) elements.push(this.line(this.empty, "empty"));
    if (shown.length > MOST) elements.push(this.line(`${shown.length - MOST} more: filter to see them`, "more"));
    if (elements.length !== this.body.children.length || elements.some((e, i) => e !== this.body.children[i] && !e.isEqualNode(this.body.children[i]))) this.body.replaceChildren(...elements);
  }

  sorted(hold) {
    const { column, down } = this.sort;
    const rows = [...this.rows];
    if (hold && this.order.length) {
      const place = new Map(this.order.map((key, i) => [key, i]));
      const of = (row) => place.get(this.key(row)) ?? Infinity;
      return rows.sort((a, b) => of(a) - of(b) || 0);
    }
    rows.sort((a, b) => (down ? -1 : 1) * compare(column.value(a), column.value(b)) || compare(this.key(a), this.key(b)));
    this.order = rows.map((row) => this.key(row));
    return rows;
  }

  row() {
    return h("tr", {}, ...this.columns.map((c, i) => h(i ? "td" : "th", { scope: i ? null : "row", class: classes(c) })));
  }

  line(words, name) {
    return h("tr", { class: name }, h("td", { colspan: String(this.columns.length), class: name }, words));
  }
}

const classes = (c) => [c.num && "num", c.opt && "opt", c.narrowOff && "narrow-off", c.wide && "wide"].filter(Boolean).join(" ") || null;

function cell(e, column, row) {
  if (column.draw) return column.draw(e, row);
  const value = column.value(row);
  text(e, column.show ? column.show(value, row) : String(value ?? ""));
  if (column.num) e.classList.toggle("zero", !value);
  tone(e, column.tone?.(row) ?? "");
}

function compare(a, b) {
  if (typeof a === "number" || typeof b === "number") return (a ?? -1) - (b ?? -1);
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

// button draws a cell that is a button; press gets the row of then.
export function button(e, label, row, press) {
  e.row = row;
  if (!e.firstChild) e.append(h("button", { type: "button", class: "link", click: () => press(e.row) }));
  text(e.firstChild, label);
}
