// The tab of one pair: an image, a text, what the model says of them, and why.

import {by, count, dropping, make, tell} from "./dom.js";
import {drawHeat} from "./heat.js";
import {base64, checkPicture} from "./pictures.js";
import {spoken, verdict, words} from "./result.js";
import {call} from "./service.js";

/** Wire the tab; `served()` gives {facts, model}. Returns `open(blob, name, text, slice)`, which fills the tab and checks. */
export function pairTab(served) {
  let chosen = null;  // {blob, name}
  let taking = null;  // the promise of one that is being looked at
  let running = null;  // AbortController
  let shownUrl = "";

  by("image").addEventListener("change", event => {
    const [file] = event.target.files;
    if (file) take(file, file.name);
    event.target.value = "";  // the same file may be chosen again
  });
  dropping(by("picture-card"), files => { if (files.length) take(files[0].file, files[0].file.name); });
  document.addEventListener("paste", event => {
    const file = [...event.clipboardData.files].find(one => one.type.startsWith("image/"));
    const written = event.target === by("text") && event.clipboardData.types.includes("text/plain");  // of a program that offers both
    if (by("pair").hidden || !file || written) return;
    event.preventDefault();
    take(file, file.name);
  });
  by("pair-form").addEventListener("submit", event => { event.preventDefault(); check(); });
  by("text").addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); check(); } });
  by("clear").addEventListener("click", clear);
  by("heat-shown").addEventListener("change", showHeat);

  function take(blob, name) {
    taking = show(blob, name);
    return taking;
  }

  /** Show an image; no answer of an earlier one stays next to it. */
  async function show(blob, name) {
    tell(by("pair-problem"), "");
    const limits = served().facts?.limits;
    try {
      await checkPicture(blob, limits?.max_image ?? Infinity);
    } catch (error) {
      tell(by("pair-problem"), `${name}: ${error.message}`);
      return;
    }
    forget();
    chosen = {blob, name};
    URL.revokeObjectURL(shownUrl);
    shownUrl = URL.createObjectURL(blob);
    const preview = by("preview");
    preview.src = shownUrl;
    preview.alt = `The chosen image, ${name}`;
    by("figure").hidden = false;
    by("picture-card").classList.add("filled");
    by("drop-title").textContent = "Another image";
    const shown = await preview.decode().then(() => true, () => false);
    if (chosen?.blob !== blob) return;
    preview.hidden = !shown;
    by("no-preview").hidden = shown;
    by("image-name").textContent = `${name}, ${shown ? `${preview.naturalWidth} × ${preview.naturalHeight} pixels, ` : ""}${count(Math.ceil(blob.size / 1024))} KB`;
  }

  /** Take away the answer, and stop one on its way. */
  function forget() {
    running?.abort();
    by("result").hidden = by("heat-tools").hidden = by("heat").hidden = true;
    by("pair-empty").hidden = false;
    by("pair-status").textContent = "";
    if (chosen) by("preview").hidden = !by("no-preview").hidden;
  }

  function clear() {
    forget();
    chosen = null;
    by("pair-form").reset();
    by("preview").removeAttribute("src");
    by("figure").hidden = true;
    by("image-name").textContent = "";
    by("picture-card").classList.remove("filled");
    by("drop-title").textContent = "Drop an image here";
    tell(by("pair-problem"), "");
    by("image").focus();
  }

  async function check() {
    await taking;
    const text = by("text").value, missing = !chosen ? "image" : !text.trim() ? "text" : "";
    tell(by("pair-problem"), missing && `An ${missing} is needed first.`.replace("An text", "A text"));
    if (missing) {
      by(missing).focus();
      return;
    }
    forget();
    running = new AbortController();
    const {signal} = running;
    by("pair-form").setAttribute("aria-busy", "true");
    by("check").textContent = "Checking …";
    try {
      await ask(text, signal);
    } catch (error) {
      if (signal.aborted) return;
      tell(by("pair-problem"), sentence(error.message));
    } finally {
      if (running?.signal === signal) {
        running = null;
        by("pair-form").removeAttribute("aria-busy");
        by("check").textContent = "Check";
      }
    }
  }

  /** First the score, which is soon there, then the reasons. */
  async function ask(text, signal) {
    const {facts, model} = served();
    if (!facts) throw new Error("the service has not said yet what it serves; see above");
    const slice = facts.score.slices ? by("slice").value : null;
    const body = {image: await base64(chosen.blob), text, ...(slice === null ? {} : {slice_value: slice}), ...(model ? {model} : {})};
    const options = {body, signal, busy: seconds => tell(by("pair-problem"), `The service is busy; asking again in ${seconds} s.`)};
    const answer = await call("v1/predict", options);
    tell(by("pair-problem"), "");
    if (answer.similarity_score === null) throw new Error(answer.status);
    const {score} = facts, place = by("result");
    by("pair-empty").hidden = true;
    place.hidden = false;
    const waiting = make("p", {class: "faint"}, "Looking at each word and each part of the image …");
    place.replaceChildren(...verdict(answer, score), waiting);
    place.scrollIntoView({block: "nearest"});
    by("pair-status").textContent = spoken(answer, score);
    let found;
    try {
      found = await call("v1/explain", options);
      tell(by("pair-problem"), "");
    } catch (error) {
      if (!signal.aborted) waiting.textContent = `No reasons: ${error.message}`;
      return;
    }
    const looked = `${count(found.texts_encoded)} variants of the text and ${count(found.images_encoded)} of the image`;
    place.replaceChildren(...verdict(answer, score), ...words({...found, text}), make("p", {class: "faint"}, `Model ${answer.model_id}. For the reasons it looked at ${looked}.`));
    const reasons = found.named.length ? `Words that don’t fit: ${found.named.map(word => word.text).join(", ")}.` : "No word stands out.";
    by("pair-status").textContent = `${spoken(answer, score)} ${reasons}`;
    if (found.heat && found.picture) await heat(found, score, signal);
  }

  async function heat(found, score, signal) {
    const most = await drawHeat(by("heat"), found.picture, found.heat);
    if (signal.aborted) return;
    const moved = score.kind === "cosine" ? `cosine by ${most.toFixed(3)}` : `log-odds by ${most.toFixed(2)}`;
    by("heat-scale").textContent = most ? `The strongest place moves the ${moved}.` : "No place matters more than another.";
    by("heat-tools").hidden = false;
    showHeat();
  }

  function showHeat() {
    const on = by("heat-shown").checked;
    by("heat").hidden = by("legend").hidden = !on;
    by("preview").hidden = on || !by("no-preview").hidden;
  }

  return {
    async open(blob, name, text, slice) {
      by("text").value = text;
      by("slice").value = slice ?? "";
      await take(blob, name);
      await check();
    },
    forget,
  };
}

const sentence = said => said[0].toUpperCase() + said.slice(1) + (/[.?!]$/.test(said) ? "" : ".");
