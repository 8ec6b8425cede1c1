// Plots of the past minutes: inline SVG, with a text that says the same.

import { byId, drawn, element, say } from "./text.js";

const HEIGHT = 170;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 8, 20];
const SPAN_MS = 300000;

/** The least "nice" number that is not below `value`: 1, 2 or 5 times a power of ten. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? 1;
}

/**
 * Draws `series` ({ at, name, kind, area }) of `points` ([ms, values...]) into the drawing of that id.
 * `stacked` puts them upon one another; `unit` turns a value into text.
 */
export function plot(id, points, series, { stacked, unit }) {
  const place = byId(id);
  const width = Math.max(place.clientWidth, 320);
  const until = points.length ? points[points.length - 1][0] : Date.now();
  const x = (ms) => LEFT + ((ms - until + SPAN_MS) / SPAN_MS) * (width - LEFT - RIGHT);
  const shown = points.filter((point) => point[0] > until - SPAN_MS);
  const rows = shown.map((point) => levels(point, series, stacked));
  const most = nice(Math.max(1, ...rows.flat().map((level) => level[1] ?? 0)));
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  const parts = [...grid(width, most, y, unit)];
  // the first lies on top: where the others are nothing, it is what is seen
  [...series.entries()].reverse().forEach(([place, one]) => {
    const known = shown.map((point, at) => [x(point[0]), ...rows[at][place]]);
    for (const run of runs(known)) {
      // one second alone would have no width
      if (run.length === 1) run.unshift([run[0][0] - (1000 / SPAN_MS) * (width - LEFT - RIGHT), run[0][1], run[0][2]]);
      const upper = run.map(([at, , high]) => `${at.toFixed(1)},${y(high).toFixed(1)}`);
      if (stacked || one.area) {
        const lower = run.map(([at, low]) => `${at.toFixed(1)},${y(low).toFixed(1)}`).reverse();
        parts.push(drawn("path", { class: `area fill-${one.kind}`, d: `M${upper.join("L")}L${lower.join("L")}Z` }));
      }
      parts.push(drawn("path", { class: `curve line-${one.kind}`, d: `M${upper.join("L")}` }));
    }
  });
  place.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  place.setAttribute("preserveAspectRatio", "none");
  place.replaceChildren(...parts);
}

/** From where to where each series reaches; [0, null] where there is no value. */
function levels(point, series, stacked) {
  let below = 0;
  return series.map((one) => {
    const value = point[one.at];
    if (value === null || value === undefined) return [0, null];
    const level = [stacked ? below : 0, stacked ? below + value : value];
    below += value;
    return level;
  });
}

/** Stretches without a hole. */
function runs(known) {
  const found = [[]];
  for (const point of known) {
    if (point[2] === null) found.push([]);
    else found[found.length - 1].push(point);
  }
  return found.filter((run) => run.length > 0);
}

function* grid(width, most, y, unit) {
  for (const share of [0, 0.5, 1]) {
    const at = y(most * share);
    yield drawn("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at });
    yield drawn("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, unit(most * share));
  }
  for (const minutes of width < 480 ? [4, 2, 0] : [5, 4, 3, 2, 1, 0]) {
    const at = LEFT + ((5 - minutes) / 5) * (width - LEFT - RIGHT);
    const anchor = minutes === 5 ? "start" : minutes === 0 ? "end" : "middle";
    yield drawn("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, minutes ? `−${minutes} min` : "now");
  }
}

/** Which colour is what. */
export function legend(id, series) {
  const entry = (one) => {
    const mark = drawn("rect", { class: `fill-${one.kind}`, width: 10, height: 10, rx: 2 });
    return element("span", {}, drawn("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, mark), one.name);
  };
  byId(id).replaceChildren(...series.map(entry));
}

/** What the plot shows, in words. Told once in ten seconds, so that it can be listened to. */
export function describe(id, points, series, unit) {
  const last = points[points.length - 1];
  if (!last || (byId(id).textContent && Math.floor(last[0] / 1000) % 10 !== 0)) return;
  const peak = (one) => Math.max(0, ...points.map((point) => point[one.at] ?? 0));
  const part = (one) => `${one.name} ${unit(last[one.at])}, peak ${unit(peak(one))}`;
  say(id, series.map(part).join(" · "));
}
