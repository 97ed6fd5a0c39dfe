// How numbers, times and sizes read.

const MINUS = "\u2212";

export function number(value, digits = 6) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  let text;
  if (Number.isInteger(value) && size < 1e6) text = String(value);
  else if (size !== 0 && (size < 1e-4 || size >= 10 ** Math.max(6, digits))) {
    const [mantissa, exponent] = value.toExponential(Math.min(digits, 4) - 1).split("e");
    text = `${mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa}e${exponent.replace("+", "")}`;
  } else {
    text = value.toPrecision(digits);
    if (text.includes(".") && !text.includes("e")) text = text.replace(/\.?0+$/, "");
  }
  return text.replaceAll("-", MINUS);
}

export const count = (value) => value.toLocaleString("en");

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const [d, hours, m] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (d) return `${d} d ${hours} h`;
  if (hours) return `${hours} h ${m} min`;
  return `${m} min ${Math.floor(seconds) % 60} s`;
}

// In one unit, for lists.
export function age(unix) {
  const seconds = Math.max(0, Date.now() / 1000 - unix);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

export const moment = (unix) => new Date(unix * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const iso = (unix) => new Date(unix * 1000).toISOString();

// US dollars as exact text, null where no price is known; cents where they are enough.
export function usd(text) {
  if (text === null) return "unknown price";
  const value = Number(text);
  if (value === 0) return "$0";
  return Math.abs(value) < 0.01 ? `$${text}` : `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

// An ARN's own part; other names as they are.
export const device = (name) => (name ?? "").replace(/^arn:aws:braket:[^ ]*:device\/(?:qpu|quantum-simulator)\//, "");
