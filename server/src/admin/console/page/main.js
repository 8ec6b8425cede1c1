// Hears what the server tells and shows it.

import { openOverride, permit } from "./override.js";
import { describe, legend, plot } from "./plot.js";
import * as tables from "./tables.js";
import { byId, element, micros, moment, number, say, seconds } from "./text.js";

const POINTS = 300;
/** Without news for so long, what is shown is old. */
const SILENT_MS = 3500;

const TRAFFIC = [
  { at: 1, name: "allowed", kind: "good" },
  { at: 2, name: "refused", kind: "bad" },
  { at: 3, name: "failed", kind: "warn" },
];
const TIMES = [
  { at: 6, name: "p50", kind: "info", area: true },
  { at: 7, name: "p99", kind: "shade" },
];

let history = [];
let fixed = null;
let now = null;
let heard = 0;

function connect() {
  const events = new EventSource("/console/events");
  events.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    ({ fixed, history, now } = state);
    permit(fixed.writes);
    showSettings();
    show();
  });
  events.addEventListener("now", (event) => {
    now = JSON.parse(event.data);
    if (now.point && now.point[0] !== history[history.length - 1]?.[0]) history.push(now.point);
    if (history.length > POINTS) history.shift();
    show();
  });
  // the browser tries again by itself, unless the answer was an error
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  });
}

function show() {
  heard = Date.now();
  live();
  say("server", `${fixed.version}${now.server.address ? ` · ${now.server.address}` : ""} · up ${seconds(now.uptime_seconds)}`);
  showAlerts();
  showTraffic();
  showKeys();
  showRules();
  showBreakers();
  showStore();
  showConfig();
}

function live() {
  const silent = Date.now() - heard > SILENT_MS;
  const place = byId("live");
  place.className = `pill ${silent ? "bad" : "good"}`;
  say("live", heard === 0 ? "connecting" : silent ? `no news since ${moment(heard)}` : "live");
}

/** What has to be seen whatever else is on the screen. */
function showAlerts() {
  const alerts = [];
  if (!now.store.up) alerts.push(["The store is down: Redis does not answer. Rules are answered by their fallbacks."]);
  if (now.store.not_asked && now.store.up) alerts.push([`Redis servers that failed a moment ago and are not asked: ${now.store.not_asked}.`]);
  if (now.config.problems.length) {
    const kept = now.config.last_good ? `the rules of ${now.config.last_good} stay in force` : "there are no rules";
    alerts.push([`The rules files of ${now.config.last_attempt} were refused: ${kept}.`, now.config.problems.join("\n")]);
  }
  const silent = now.peers.filter((peer) => peer.silent);
  if (silent.length) alerts.push([`Silent servers: ${silent.length} of the other ${now.peers.length}. Figures of the fleet lack theirs.`]);
  const alert = ([text, more]) => element("div", { class: "alert bad" }, text, more ? element("pre", {}, more) : null);
  const made = element("div", {}, ...alerts.map(alert));
  const place = byId("alerts");
  // unchanged, it is not read out again
  if (place.textContent !== made.textContent) place.replaceChildren(...made.childNodes);
}

function showTraffic() {
  const point = now.point ?? [];
  const errors = point[3] ?? 0;
  tables.figures("traffic-figures", [
    ["allowed per second", number(point[1]), "good"],
    ["refused per second", number(point[2]), point[2] ? "bad" : ""],
    ["failed per second", number(errors), errors ? "warn" : ""],
    ["fallbacks per second", number(point[5]), point[5] ? "warn" : ""],
    ["let pass by global shadow mode", number(point[4]), point[4] ? "shade" : ""],
    ["connections", number((now.connections.grpc ?? 0) + (now.connections.http ?? 0))],
    ["requests held", number(now.held)],
  ]);
  plot("traffic-plot", history, TRAFFIC, { stacked: true, unit: number });
  describe("traffic-text", history, TRAFFIC, number);
}

function showKeys() {
  const { keys, peers } = now;
  const heardOf = peers.filter((peer) => !peer.silent).length;
  const whose = peers.length ? `${heardOf + 1} of ${peers.length + 1} servers` : "this server";
  const note = (total) => `${whose}, last ${keys.covers_seconds} s, ${number(total)} in all`;
  say("refused-note", note(keys.refused_total));
  say("asked-note", note(keys.asked_total));
  tables.fill("refused", tables.REFUSED, keys.refused, "Nothing was refused.");
  tables.fill("asked", tables.ASKED, keys.asked, "Nobody has asked.");
}

const matching = (rows, id, text) => {
  const wanted = byId(id).value.toLowerCase();
  return wanted ? rows.filter((row) => text(row).toLowerCase().includes(wanted)) : rows;
};

function showRules() {
  const { rules } = now;
  say("rules-note", `this server, last ${rules.seconds} s · ${rules.shown.length} of ${rules.of} shown, refusing ones first`);
  const rows = matching(rules.shown, "rules-filter", (row) => `${row.rule} ${row.state}`);
  tables.fill("rules-table", tables.RULES, rows, "No rules.");
}

function showBreakers() {
  const { breakers } = now;
  say("breakers-note", breakers.of ? `${breakers.shown.length} of ${breakers.of} shown` : "");
  tables.fill("circuits", circuitColumns, breakers.shown, "No client reports on a circuit.");
  tables.fill("changes", tables.CHANGES, breakers.changes, "No breaker has changed its state.");
}

const circuitColumns = tables.circuits(openOverride);

function showStore() {
  const { store, point } = now;
  const remote = store.kind === "redis";
  say("store-note", remote ? (store.up ? "Redis answers" : "Redis is down") : "in this process' memory: no round trip");
  tables.figures("store-figures", tables.storeFigures(store, point ?? []));
  byId("store-figure").hidden = !remote;
  if (remote) {
    plot("store-plot", history, TIMES, { stacked: false, unit: micros });
    describe("store-text", history, TIMES, micros);
  }
  tables.fill("fallbacks", tables.FALLBACKS, now.fallbacks, "The store has answered everything.");
  byId("fleet").hidden = !now.peers.length;
  tables.fill("peers", tables.PEERS, now.peers, "");
}

function showConfig() {
  const { config } = now;
  const state = config.problems.length ? "the last load was refused" : config.last_good ? "loaded" : "not loaded yet";
  say("config-note", `${state} · ${config.files} ${config.files === 1 ? "file" : "files"}, generation ${config.generation}, in force since ${config.last_good ?? "–"}`);
  const block = (kind, title, lines) =>
    lines.length ? [element("div", { class: `alert ${kind}` }, title, element("pre", {}, lines.join("\n")))] : [];
  const blocks = [...block("bad", "Errors of the refused files", config.problems), ...block("", "Warnings", config.warnings)];
  const made = element("div", {}, ...(blocks.length ? blocks : [element("p", { class: "dim" }, "No errors, no warnings.")]));
  const place = byId("problems");
  if (place.textContent !== made.textContent) place.replaceChildren(...made.childNodes);
}

function showSettings() {
  if (!fixed) return;
  const rows = matching(fixed.settings, "settings-filter", (row) => row.join(" "));
  // what somebody has set comes first
  const set = (row) => (row[2] === "default" ? 1 : 0);
  tables.fill("settings", tables.SETTINGS, [...rows].sort((one, other) => set(one) - set(other)), "No such setting.");
}

legend("traffic-legend", TRAFFIC);
legend("store-legend", TIMES);
byId("rules-filter").addEventListener("input", () => now && showRules());
byId("settings-filter").addEventListener("input", showSettings);
window.addEventListener("resize", () => now && show());
setInterval(live, 1000);
connect();
