// Numbers and times for people.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(n) {
  if (n == null) return "–";
  if (n >= 1e8) return `${(n / 1e6).toFixed(0)} M`;
  return grouped.format(n);
}

// rate is per second.
export function rate(n) {
  if (n == null) return "–";
  if (n === 0) return "0";
  if (n < 0.095) return "<0.1";
  if (n < 9.95) return n.toFixed(1);
  if (n < 1e6) return grouped.format(n);
  return `${(n / 1e6).toFixed(1)} M`;
}

export function percent(part) {
  if (part == null) return "–";
  if (part === 0) return "0";
  const p = part * 100;
  if (p < 0.1) return "<0.1";
  return p < 10 ? p.toFixed(1) : p.toFixed(0);
}

// millis has three digits that count, at any size.
export function millis(n) {
  if (n == null || n === 0) return "–";
  if (n < 0.01) return "<0.01";
  if (n < 10) return n.toFixed(2);
  if (n < 100) return n.toFixed(1);
  return grouped.format(n);
}

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return `${unit === "B" || n >= 100 ? n.toFixed(0) : n.toFixed(1)} ${unit}`;
    n /= 1024;
  }
  return `${n.toFixed(1)} TiB`;
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// ago is rounded down to one unit, so that it changes rarely.
export function ago(seconds) {
  const s = Math.max(0, seconds);
  if (s < 5) return "now";
  if (s < 60) return `${Math.floor(s / 5) * 5} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

export const clock = (date) => date.toLocaleTimeString("en-GB");

export function moment(date) {
  const pad = (n) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(date)}`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// reason turns the name of a reason into words.
export const reason = (name) => name.replaceAll("_", " ");
