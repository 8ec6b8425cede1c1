// Elements and figures as text. Nothing here, nor elsewhere, writes HTML: all text is text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; children may be texts. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in a drawing. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A count or a rate. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100000) return compact.format(value);
  return value < 100 ? tenth.format(value) : whole.format(value);
}

/** Microseconds. */
export function micros(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1000) return `${value} µs`;
  return value < 1e6 ? `${tenth.format(value / 1000)} ms` : `${tenth.format(value / 1e6)} s`;
}

/** Seconds as people say them. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 100) return `${tenth.format(value)} s`;
  if (value < 5400) return `${whole.format(value / 60)} min`;
  return value < 172800 ? `${tenth.format(value / 3600)} h` : `${tenth.format(value / 86400)} d`;
}

/** A moment of today by its time, another with its date. */
export function moment(ms) {
  if (!ms) return "never";
  const at = new Date(ms);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/** A coloured word. */
export const pill = (text, kind) => element("span", { class: `pill ${kind}` }, text);

/** Sets a text, but only if it is another: a screen reader would read it again. */
export function say(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}
