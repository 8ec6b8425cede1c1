// The form that forces a breaker. The token is kept in this page only, and sent in a header only.

import { byId } from "./text.js";

const FIELDS = ["namespace", "target", "shard", "operation"];
const form = byId("override-form");
const dialog = byId("override");
const answer = byId("override-answer");

/** Opens the form, filled with a circuit if there is one. */
export function openOverride(circuit) {
  for (const field of FIELDS) form.elements[field].value = circuit?.[field] ?? "";
  form.elements.mode.value = circuit?.override ? "none" : "forced_open";
  form.elements.reason.value = "";
  answer.textContent = "";
  modeChanged();
  dialog.showModal();
  form.elements[circuit ? "mode" : "namespace"].focus();
}

/** Who may change something: `open`, `token` or `closed`. */
export function permit(writes) {
  byId("override-closed").hidden = writes !== "closed";
  form.elements.token.required = writes === "token";
  form.elements.token.closest("label").hidden = writes !== "token";
  form.querySelector("[type=submit]").disabled = writes === "closed";
}

function modeChanged() {
  form.elements.ttl_seconds.disabled = form.elements.mode.value === "none";
}

async function apply(event) {
  event.preventDefault();
  const wish = { mode: form.elements.mode.value, reason: form.elements.reason.value, actor: form.elements.actor.value };
  for (const field of FIELDS) wish[field] = form.elements[field].value;
  if (wish.mode !== "none") wish.ttl_seconds = Number(form.elements.ttl_seconds.value);
  const headers = { "content-type": "application/json" };
  if (form.elements.token.value) headers.authorization = `Bearer ${form.elements.token.value}`;
  answer.className = "";
  answer.textContent = "…";
  try {
    const told = await fetch("/console/override", { method: "POST", headers, body: JSON.stringify(wish), credentials: "omit" });
    const body = await told.json();
    if (told.ok) return dialog.close();
    answer.textContent = body.error;
  } catch (error) {
    answer.textContent = `The server does not answer: ${error.message}`;
  }
  answer.className = "bad";
}

form.addEventListener("submit", apply);
form.elements.mode.addEventListener("change", modeChanged);
byId("override-cancel").addEventListener("click", () => dialog.close());
byId("override-open").addEventListener("click", () => openOverride(null));
