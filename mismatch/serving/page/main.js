// The page: its tabs, what is served, and the question for a token.

import {batchTab} from "./batch.js";
import {by, make, tell} from "./dom.js";
import {pairTab} from "./pair.js";
import {figure} from "./result.js";
import {askTokensWith, call} from "./service.js";

const TABS = ["pair", "batch"];
const ROOM = 2 ** 16;  // bytes of a request next to its image

let facts = null, model = "";
const served = () => ({facts, model});
const pair = pairTab(served);
const batch = batchTab(served, async (row, picture) => {
  show("pair");
  by("pair-tab").focus();
  try {
    await pair.open(await picture.open(facts.limits.max_image), row.image, row.text, row.slice);
  } catch (error) {
    tell(by("pair-problem"), `${row.image}: ${error.message}`);
  }
});

function show(name) {
  for (const one of TABS) {
    const chosen = one === name;
    by(one).hidden = !chosen;
    by(`${one}-tab`).setAttribute("aria-selected", chosen);
    by(`${one}-tab`).tabIndex = chosen ? 0 : -1;
  }
}

for (const [number, name] of TABS.entries()) {
  by(`${name}-tab`).addEventListener("click", () => show(name));
  by(`${name}-tab`).addEventListener("keydown", event => {
    const to = {ArrowRight: (number + 1) % TABS.length, ArrowLeft: (number + TABS.length - 1) % TABS.length, Home: 0, End: TABS.length - 1}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(TABS[to]);
    by(`${TABS[to]}-tab`).focus();
  });
}
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, event => event.preventDefault());  // a file dropped next to a zone would replace the page

askTokensWith(wrong => {
  const dialog = by("token-dialog");
  by("token-wrong").hidden = !wrong;
  by("token").value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener("close", () => {
    resolve(dialog.returnValue === "given" ? by("token").value.trim() : "");
    by("token").value = "";
  }, {once: true}));
});

/** What is served, and of it the chosen model. */
async function start() {
  tell(by("page-problem"), "");
  try {
    const {default: first, models} = await call("v1/models");
    by("model").replaceChildren(...models.map(({name}) => make("option", {value: name}, name)));
    by("model").value = model = models.length > 1 ? first : "";
    by("model-choice").hidden = models.length < 2;
    await choose();
  } catch (error) {
    tell(by("page-problem"), `What is being served can’t be told: ${error.message}.`, make("button", {type: "button", class: "quiet", click: start}, "Try again"));
  }
}

async function choose() {
  const name = model, found = await call(name ? `v1/model?name=${encodeURIComponent(name)}` : "v1/model");
  if (name !== model) return;  // another one was chosen meanwhile
  facts = found;
  facts.limits.max_image = Math.min(facts.limits.max_image, Math.max(1, Math.floor(0.75 * (facts.limits.max_body - ROOM))));  // in base64 it is larger by a third
  const {review, slices} = facts.score;
  const parts = [model ? "" : `Model ${facts.model_id}`, `threshold ${figure(facts.threshold)}`, review && `review ${figure(review.low)} to ${figure(review.high)}`, facts.scripts.length && `reads ${facts.scripts.join(", ")}`];
  by("model-facts").textContent = parts.filter(Boolean).join(" · ");
  by("slice-field").hidden = !slices;
  by("slice-name").textContent = slices ? `${slices.column} (the model has thresholds of its own for some)` : "";
  by("slice-values").replaceChildren(...Object.keys(slices?.values ?? {}).map(value => make("option", {value})));
  pair.forget();
  batch.serve();
}

by("model").addEventListener("change", async () => {
  model = by("model").value;
  try {
    await choose();
    tell(by("page-problem"), "");
  } catch (error) {
    tell(by("page-problem"), `The model can’t be used: ${error.message}.`);
  }
});

start();
