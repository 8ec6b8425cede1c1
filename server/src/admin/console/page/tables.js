// Tables: rows are made anew each second, but only where something differs, so that focus and selection stay.

import { byId, drawn, element, micros, moment, number, pill, seconds } from "./text.js";

/** Fills a table. A column is [heading, cell of a row, class]; the first is the row's heading. */
export function fill(id, columns, rows, nothing) {
  const table = byId(id);
  if (!table.tHead) {
    const heading = ([name, , kind]) => element("th", { scope: "col", class: kind }, name);
    table.append(element("thead", {}, element("tr", {}, ...columns.map(heading))), element("tbody"));
  }
  const body = table.tBodies[0];
  const made = rows.map((row) => element("tr", {}, ...columns.map((column, place) => cell(column, row, place))));
  if (!made.length) made.push(element("tr", {}, element("td", { class: "empty", colspan: columns.length }, nothing)));
  made.forEach((row, place) => {
    const old = body.rows[place];
    if (!old) body.append(row);
    else if (!old.isEqualNode(row)) exchange(old, row);
  });
  while (body.rows.length > made.length) body.lastElementChild.remove();
}

/** Puts new cells where they differ; a button with the focus keeps it. */
function exchange(old, row) {
  if (old.cells.length !== row.cells.length) return old.replaceWith(row);
  [...row.cells].forEach((cell, place) => {
    if (!old.cells[place].isEqualNode(cell)) old.cells[place].replaceWith(cell);
  });
}

function cell([, show, kind], row, place) {
  const content = [show(row)].flat();
  return element(place === 0 ? "th" : "td", place === 0 ? { scope: "row", class: kind } : { class: kind }, ...content);
}

/** How much of a limit is used. */
function use(percent, label) {
  if (percent === null || percent === undefined) return "–";
  const kind = percent >= 100 ? "bad" : percent >= 80 ? "warn" : "good";
  const bar = drawn(
    "svg",
    { class: "use", viewBox: "0 0 84 8", "aria-hidden": "true" },
    drawn("rect", { class: "back", width: 84, height: 8, rx: 4 }),
    drawn("rect", { class: `fill-${kind}`, width: Math.max(1, 0.84 * percent), height: 8, rx: 4 }),
  );
  return [bar, label ?? `${percent} %`];
}

const share = (row) => (row.limit ? Math.min(100, Math.floor((100 * row.used) / row.limit)) : 100);
const between = (row) => (row.low === row.high ? "exact" : `${number(row.low)}–${number(row.high)}`);
const ago = (row) => (row.seconds_ago < 2 ? "now" : `${row.seconds_ago} s ago`);

export const REFUSED = [
  ["Key", (row) => row.key, "code"],
  ["Refused by rule", (row) => [row.rule, row.shadow ? pill("shadow", "shade") : null], "code"],
  ["Refusals", (row) => number(row.count), "number"],
  ["Bounds", between, "number small"],
  ["Limit", (row) => number(row.limit), "number"],
  ["Retry in", (row) => (row.retry_ms === null ? "never" : seconds(row.retry_ms / 1000)), "number"],
  ["Last", ago, "number"],
];

export const ASKED = [
  ["Key", (row) => row.key, "code"],
  ["Rule", (row) => row.rule, "code"],
  ["Per second", (row) => number(row.per_second), "number"],
  ["Decisions", (row) => number(row.count), "number"],
  ["Bounds", between, "number small"],
  ["Used", (row) => use(share(row), `${number(row.used)} of ${number(row.limit)}`), "keep"],
];

const NEAR = { over: ["refusing", "bad"], near: ["near limit", "warn"], within: ["within", "good"], idle: ["idle", "dim"] };

export const RULES = [
  ["Rule", (row) => row.rule, "code"],
  ["State", (row) => [pill(...NEAR[row.state]), row.shadow ? pill("shadow", "shade") : null]],
  ["Limit", (row) => row.limit],
  ["Algorithm", (row) => row.algorithm ?? "–"],
  ["Allowed/s", (row) => number(row.allowed), "number"],
  ["Refused/s", (row) => number(row.shadow ? row.shadowed : row.refused), "number"],
  ["Fullest key", (row) => use(row.use_percent)],
  ["", (row) => row.fullest ?? "", "code small"],
];

const STATE = { closed: "good", open: "bad", half_open: "warn", recovering: "warn", forced_open: "bad", disabled: "shade" };
export const circuitName = (row) => [row.namespace, row.target, row.shard, row.operation].filter(Boolean).join(" / ");

/** Circuits; `act` is called with the one whose button is pressed. */
export const circuits = (act) => [
  ["Circuit", circuitName, "code"],
  ["State", (row) => [pill(row.state.replace("_", " "), STATE[row.state] ?? "info"), row.metrics_only ? pill("metrics only", "shade") : null]],
  ["For", (row) => seconds(Math.floor(row.in_state_for_seconds ?? 0)), "number"],
  ["Admits", (row) => `${number(100 * row.admit)} %`, "number"],
  ["Failed of calls", (row) => `${number(row.failures)} of ${number(row.calls)}`, "number"],
  ["Reporters", (row) => number(row.reporters), "number"],
  ["Why", (row) => row.reason],
  ["Override", forced],
  ["", (row) => action(row, act)],
];

function forced(row) {
  if (!row.override) return "–";
  const { mode, ttl_seconds, actor, reason } = row.override;
  const word = mode.replace("MODE_", "").replace("_", " ").toLowerCase();
  const left = ttl_seconds === null ? "until it is ended" : `${seconds(Math.ceil(ttl_seconds))} left`;
  return [pill(word, "warn"), ` ${reason} (${actor}, ${left})`];
}

function action(row, act) {
  const button = element("button", { type: "button", class: "row-button", "aria-label": `Override ${circuitName(row)}` }, "Override…");
  button.addEventListener("click", () => act(row));
  return button;
}

export const CHANGES = [
  ["When", (row) => moment(row.at_ms), "keep"],
  ["Circuit", circuitName, "code"],
  ["Change", (row) => `${row.from.replace("_", " ")} → ${row.to.replace("_", " ")}`],
  ["Why", (row) => row.reason],
  ["Judged by", (row) => row.owner || "this server", "code small"],
];

export const FALLBACKS = [
  ["From", (row) => moment(row.from_ms), "keep"],
  ["Until", (row) => moment(row.until_ms), "keep"],
  ["Rule", (row) => row.rule, "code"],
  ["Cause", (row) => pill(row.cause.replace("_", " "), "bad")],
  ["Answered", (row) => row.answer],
  ["Times", (row) => number(row.times), "number"],
];

export const PEERS = [
  ["Server", (row) => row.address, "code"],
  ["Name", (row) => row.name, "code small"],
  ["State", (row) => (row.silent ? [pill("silent", "bad"), ` ${row.silent}: its keys and breakers are missing here`] : pill("heard", "good"))],
];

export const SETTINGS = [
  ["Setting", (row) => row[0], "code"],
  ["Value", (row) => row[1], "code"],
  ["Set by", (row) => (row[2] === "default" ? "default" : pill(row[2], "info"))],
];

/** The figures above a plot. */
export function figures(id, all) {
  const figure = ([name, value, kind]) => element("div", { class: "figure" }, element("b", { class: kind }, value), element("span", {}, name));
  const made = element("div", {}, ...all.map(figure));
  if (byId(id).innerHTML !== made.innerHTML) byId(id).replaceChildren(...made.childNodes);
}

/** What is said of the store. */
export function storeFigures(store, point) {
  if (store.kind === "memory") {
    const full = store.full.denied + store.full.allowed + store.full.evicted;
    return [
      ["keys", number(store.keys)],
      ["memory", `${number(store.bytes / 1048576)} MiB`],
      ["times full", number(full), full ? "bad" : ""],
    ];
  }
  const faults = Object.values(store.faults).reduce((sum, times) => sum + times, 0);
  return [
    ["p50", micros(point[6])],
    ["p99", micros(point[7])],
    ["calls per second", number(point[8])],
    ["waiting", number(store.waiting)],
    ["faults since the start", number(faults), faults ? "bad" : ""],
    ["refusals remembered", number(store.denials?.keys ?? 0)],
    ["servers on this Redis", number(store.servers)],
  ];
}
