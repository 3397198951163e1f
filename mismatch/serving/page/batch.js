// The tab of many pairs: files in, rows matched with images, answers as they come.

import {by, count, counted, dropping, make, tell} from "./dom.js";
import {inWords, sourcesOf} from "./files.js";
import {Pictures} from "./pictures.js";
import {scoreRows} from "./scoring.js";
import {resultsTable, summary} from "./table.js";

const MISSING_SHOWN = 20;
const NAMES = {  // of columns, the first of which is there is chosen
  image: ["image_path", "image", "path", "file", "filename", "img", "image_file"],
  text: ["text", "caption", "title", "description", "name"],
};
const COLUMNS = ["image-column", "text-column", "slice-column"];
const CHOICES = [...COLUMNS, "batch-files", "batch-folder", "model"];  // that stay as they are while rows are checked

/** The first of many messages, and how many more there are. */
function shortened(messages) {
  const more = messages.length - MISSING_SHOWN;
  return more > 0 ? [...messages.slice(0, MISSING_SHOWN), `and ${count(more)} more`] : messages;
}

/** Wire the tab; `served()` gives {facts, model}, `look(row, picture)` opens a pair in the other tab. Returns `serve()`, for another model. */
export function batchTab(served, look) {
  let sources = [];  // of files.js
  let sheet = null;  // {name, header, rows, delimiter}, of one of them
  let pictures = new Pictures();
  let rows = [];  // {number, line, cells, image, text, slice, damage, answer}
  let running = null;  // AbortController
  let started = false;
  const table = resultsTable(look);
  const slices = () => served().facts?.score.slices ?? null;

  by("batch-files").addEventListener("change", event => chosen(event.target));
  by("batch-folder").addEventListener("change", event => chosen(event.target));
  dropping(by("batch"), add);
  for (const id of COLUMNS) by(id).addEventListener("change", match);
  by("start").addEventListener("click", run);
  by("cancel").addEventListener("click", () => running?.abort());
  addEventListener("beforeunload", event => { if (running) event.preventDefault(); });

  // --- files ---

  function chosen(input) {
    const files = [...input.files].map(file => ({path: file.webkitRelativePath || file.name, file}));
    input.value = "";
    add(files);
  }

  /** More files; a CSV takes the place of the one so far, and of those in zips. */
  async function add(files) {
    if (running) return;
    const found = await sourcesOf(files);
    tell(by("files-problem"), shortened(found.problems).join("; "));
    sources = sources.concat(found.sources);
    const last = sources.findLast(source => source.sheet && !source.packed);
    sources = sources.filter(source => source === last || source.pictures.length || source.packed);
    changed();
  }

  function remove(source) {
    if (running) return;
    sources = sources.filter(one => one !== source);
    changed();
    by("batch-files").focus();
  }

  /** After a change of files. */
  function changed() {
    const before = sheet;
    sheet = (sources.findLast(source => source.sheet && !source.packed) ?? sources.findLast(source => source.sheet))?.sheet ?? null;
    by("chosen").replaceChildren(...sources.map(source => make("li", {},
      make("span", {}, `${source.name}: `, make("span", {class: "faint"}, inWords(source, sheet))),
      make("button", {type: "button", class: "quiet", "aria-label": `Remove ${source.name}`, click: () => remove(source)}, "Remove"))));
    pictures = new Pictures();
    for (const source of sources) for (const {path, open} of source.pictures) pictures.add(path, open);
    if (sheet !== before) columns();
    match();
  }

  // --- rows ---

  /** The choice of columns, with a guess. */
  function columns() {
    fill("image-column", NAMES.image);
    fill("text-column", NAMES.text);
    fillSlices();
    if (sheet?.header.length > 1 && by("image-column").value === by("text-column").value) by("text-column").value = by("image-column").value === "0" ? "1" : "0";
  }

  const fillSlices = () => fill("slice-column", [slices()?.column.toLowerCase()], make("option", {value: "-1"}, "none"));

  function fill(id, names, none = null) {
    const header = sheet?.header ?? [], folded = header.map(name => name.toLowerCase());
    const at = folded.indexOf(names.find(name => folded.includes(name)));
    const options = header.map((name, number) => make("option", {value: number}, name || `column ${number + 1}`));
    by(id).replaceChildren(...(none ? [none] : []), ...options);
    by(id).value = String(none ? at : Math.max(0, at));
  }

  /** Rows by the chosen columns, and how many of them have their image; answers so far are dropped. */
  function match() {
    by("no-rows").hidden = Boolean(sheet);
    by("rows").hidden = !sheet;
    by("slice-column-field").hidden = !slices();
    by("slice-column-name").textContent = slices() ? `Threshold by ${slices().column}` : "";
    const [image, text, slice] = COLUMNS.map(id => Number(by(id).value));
    const damage = ({line, cells}) => cells.length === sheet.header.length ? "" : `line ${line} has ${counted(cells.length, "field")} where the header has ${sheet.header.length}`;
    rows = (sheet?.rows ?? []).map((row, at) => ({
      number: at + 1,
      line: row.line,
      cells: row.cells,
      image: row.cells[image] ?? "",
      text: row.cells[text] ?? "",
      slice: slices() && slice >= 0 ? row.cells[slice] ?? "" : null,
      damage: damage(row),
      answer: null,
    }));
    started = false;
    by("results").hidden = by("progress-field").hidden = true;
    tell(by("batch-problem"), "");
    if (rows.length) sayWhatIsMissing();
    buttons();
  }

  function sayWhatIsMissing() {
    const reasons = [];
    pictures.expect(rows.filter(row => !row.damage).map(row => row.image));
    for (const row of rows) {
      try {
        if (!row.damage) pictures.find(row.image);
      } catch (error) {
        reasons.push(`${row.image || `row ${row.number}`}: ${error.message}`);
      }
    }
    const [first] = rows, without = reasons.length, few = [...new Set(reasons)];
    by("first-row").textContent = `First row: ${first.image || "no image"} · ${first.text.slice(0, 120) || "no text"}`;
    if (without) by("matching").textContent = `${count(rows.length - without)} of ${counted(rows.length, "row")} have their image; ${count(without)} ${without === 1 ? "lacks" : "lack"} it.`;
    else by("matching").textContent = rows.length === 1 ? "The row has its image." : `All ${count(rows.length)} rows have their image.`;
    by("missing").hidden = !without;
    by("missing").querySelector("summary").textContent = "Which images are missing";
    by("missing").querySelector("ul").replaceChildren(...shortened(few).map(words => make("li", {}, words)));
  }

  function buttons() {
    const left = rows.filter(row => !row.answer).length;
    by("start").disabled = Boolean(running) || !pictures.size || !left;
    by("start").textContent = startWords(left);
    by("cancel").hidden = !running;
    for (const id of CHOICES) by(id).disabled = Boolean(running);
  }

  function startWords(left) {
    if (!rows.length) return "Check all rows";
    if (!left) return "All rows are checked";
    return started ? `Check the other ${counted(left, "row")}` : `Check ${counted(left, "row")}`;
  }

  // --- answers ---

  async function run() {
    const {facts, model} = served();
    if (!facts) {
      tell(by("batch-problem"), "The service has not said yet what it serves; see above.");
      return;
    }
    running = new AbortController();
    const {signal} = running, find = path => pictures.find(path);
    if (!started) table.show(rows, find, sheet);
    started = true;
    buttons();
    by("cancel").focus();
    tell(by("batch-problem"), "");
    by("progress-field").hidden = false;
    by("batch-status").textContent = "Checking.";
    const progress = progressFrom(rows.filter(row => row.answer).length);
    let problem = null;
    try {
      const busy = seconds => progress(`the service is busy, asking again in ${seconds} s`);
      await scoreRows(rows, {limits: facts.limits, find, model, signal, done: () => progress(""), busy});
    } catch (error) {
      problem = error;
    }
    running = null;
    progress("");
    finish(problem, signal.aborted);
  }

  /** Shows how far it is, and how long it will take; `before` rows were answered earlier. */
  function progressFrom(before) {
    const start = performance.now();
    return note => {
      const ready = rows.filter(row => row.answer).length, seconds = (performance.now() - start) / 1000;
      const left = (rows.length - ready) * seconds / Math.max(1, ready - before);
      by("progress").max = rows.length;
      by("progress").value = ready;
      const parts = [`${count(ready)} of ${counted(rows.length, "row")}`];
      if (ready > before && ready < rows.length) parts.push(`about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`);
      if (note) parts.push(note);
      by("progress-words").textContent = parts.join(", ");
      table.refresh();
    };
  }

  function finish(problem, cancelled) {
    const had = by("cancel") === document.activeElement;
    buttons();
    const left = rows.filter(row => !row.answer).length;
    const words = `${cancelled ? "Cancelled" : problem ? "Stopped" : "Done"}: ${summary(rows)}.`;
    by("batch-status").textContent = by("progress-words").textContent = words;
    if (problem && !cancelled) tell(by("batch-problem"), `Stopped with ${counted(left, "row")} left: ${problem.message}. The button above goes on from there.`);
    if (had) (left ? by("start") : by("results-title")).focus();
    table.redraw();
  }

  return {
    serve() {
      fillSlices();
      match();
    },
  };
}
