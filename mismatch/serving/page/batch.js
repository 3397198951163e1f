// The tab of many pairs: files in, rows matched with images, answers as they come.

import {by, count, counted, dropping, make, tell} from "./dom.js";
import {decode, parse} from "./csv.js";
import {Pictures, isPicture} from "./pictures.js";
import {scoreRows} from "./scoring.js";
import {resultsTable, summary} from "./table.js";
import {entriesOf} from "./zip.js";

const MOST_CSV = 256 * 2 ** 20;  // bytes
const MISSING_SHOWN = 20;
const NAMES = {  // of columns, the first of which is there is chosen
  image: ["image_path", "image", "path", "file", "filename", "img", "image_file"],
  text: ["text", "caption", "title", "description", "name"],
};
const isTable = path => /\.(csv|tsv|txt)$/i.test(path) && !/(^|\/)(__MACOSX\/|\.)/.test(path);

/** Wire the tab; `served()` gives {facts, model}, `look(row, picture)` opens a pair in the other tab. */
export function batchTab(served, look) {
  let sources = [];  // {name, words, pictures: [{path, open}], sheet}
  let sheet = null;  // {name, header, rows, delimiter}
  let pictures = new Pictures(), rows = [], running = null, started = false;
  const table = resultsTable(look);

  by("batch-files").addEventListener("change", event => chosen(event.target));
  by("batch-folder").addEventListener("change", event => chosen(event.target));
  dropping(by("batch"), add);
  for (const id of ["image-column", "text-column", "slice-column"]) by(id).addEventListener("change", match);
  by("start").addEventListener("click", run);
  by("cancel").addEventListener("click", () => running?.abort());
  addEventListener("beforeunload", event => { if (running) event.preventDefault(); });

  function chosen(input) {
    const files = [...input.files].map(file => ({path: file.webkitRelativePath || file.name, file}));
    input.value = "";
    add(files);
  }

  /** More files; a new CSV takes the place of the one so far. */
  async function add(files) {
    if (running) return;
    tell(by("files-problem"), "");
    const problems = [], loose = [], known = new Map();
    for (const {path, file} of files) {
      try {
        if (/\.zip$/i.test(path)) sources.push(await zipSource(file));
        else if (isTable(path)) sources.push(await sheetSource(file, file.name));
        else if (isPicture(path)) loose.push({path, open: async () => file});
        else if (files.length === 1) throw new Error("it is neither a CSV, a zip nor an image");
      } catch (error) {
        problems.push(`${path}: ${error.message}`);
      }
    }
    for (const one of loose) {
      const folder = /^\/?([^/]+)\//.exec(one.path)?.[1] ?? "";
      known.set(folder, [...(known.get(folder) ?? []), one]);
    }
    for (const [folder, own] of known) sources.push({name: folder ? `Folder ${folder}` : own.length === 1 ? own[0].path : "Single images", words: counted(own.length, "image"), pictures: own, sheet: null});
    const sheets = sources.filter(source => source.sheet);
    for (const old of sheets.slice(0, -1)) {
      old.sheet = null;
      old.words = counted(old.pictures.length, "image");
    }
    sources = sources.filter(source => source.sheet || source.pictures.length);
    tell(by("files-problem"), problems.join("; "));
    changed();
  }

  async function sheetSource(blob, name) {
    const found = await readSheet(blob, name);
    return {name, words: described(found), pictures: [], sheet: found};
  }

  async function zipSource(file) {
    const entries = await entriesOf(file);
    const images = entries.filter(entry => isPicture(entry.path)).map(entry => ({path: entry.path, open: most => entry.read(Math.min(most, served().facts?.limits.max_image ?? most))}));
    const tables = entries.filter(entry => isTable(entry.path) && /\.(csv|tsv)$/i.test(entry.path));
    const own = tables.length === 1 ? await readSheet(await tables[0].read(MOST_CSV), tables[0].path.split("/").at(-1)) : null;
    if (!images.length && !own) throw new Error(tables.length ? `it holds ${tables.length} CSVs and no image; choose one CSV` : "it holds no image and no CSV");
    return {name: file.name, words: [counted(images.length, "image"), own && `${own.name} with ${described(own)}`].filter(Boolean).join(", "), pictures: images, sheet: own};
  }

  /** After a change of files: everything from the columns on anew. */
  function changed() {
    by("chosen").replaceChildren(...sources.map(source => make("li", {},
      make("span", {}, `${source.name}: `, make("span", {class: "faint"}, source.words)),
      make("button", {type: "button", class: "quiet", "aria-label": `Remove ${source.name}`, click: () => { if (!running) { sources = sources.filter(one => one !== source); changed(); by("batch-files").focus(); } }}, "Remove"))));
    pictures = new Pictures();
    for (const source of sources) for (const {path, open} of source.pictures) pictures.add(path, open);
    const last = sources.findLast(source => source.sheet)?.sheet ?? null;
    if (last !== sheet) {
      sheet = last;
      columns();
    }
    match();
  }

  /** The choice of columns, with a guess. */
  function columns() {
    for (const [id, names] of [["image-column", NAMES.image], ["text-column", NAMES.text], ["slice-column", [served().facts?.score.slices?.column.toLowerCase()]]]) {
      const header = sheet?.header ?? [];
      const folded = header.map(name => name.toLowerCase());
      const guess = Math.max(folded.indexOf(names.find(name => folded.includes(name))), id === "slice-column" ? -1 : 0);
      by(id).replaceChildren(...(id === "slice-column" ? [make("option", {value: "-1"}, "none")] : []), ...header.map((name, at) => make("option", {value: at}, name || `column ${at + 1}`)));
      by(id).value = String(guess);
    }
    if (sheet?.header.length > 1 && by("image-column").value === by("text-column").value) by("text-column").value = by("image-column").value === "0" ? "1" : "0";
  }

  /** Rows by the chosen columns, and how many of them have their image; answers so far are dropped. */
  function match() {
    const slices = served().facts?.score.slices;
    by("no-rows").hidden = Boolean(sheet);
    by("rows").hidden = !sheet;
    by("slice-column-field").hidden = !slices;
    by("slice-column-name").textContent = slices ? `Threshold by ${slices.column}` : "";
    const [image, text, slice] = ["image-column", "text-column", "slice-column"].map(id => Number(by(id).value));
    rows = (sheet?.rows ?? []).map(({line, cells}, at) => ({
      number: at + 1, line, cells, image: cells[image] ?? "", text: cells[text] ?? "", slice: slices && slice >= 0 ? cells[slice] ?? "" : null, answer: null,
      damage: cells.length === sheet.header.length ? "" : `line ${line} has ${counted(cells.length, "field")} where the header has ${sheet.header.length}`,
    }));
    started = false;
    by("results").hidden = true;
    if (rows.length) sayWhatIsMissing();
    buttons();
  }

  function sayWhatIsMissing() {
    const reasons = new Map();
    let without = 0;
    for (const row of rows) {
      try {
        if (!row.damage) pictures.find(row.image);
      } catch (error) {
        without += 1;
        if (reasons.size < MISSING_SHOWN) reasons.set(row.image || `row ${row.number}`, error.message);
      }
    }
    const [first] = rows;
    by("first-row").textContent = `First row: ${first.image || "no image"} · ${first.text.slice(0, 120) || "no text"}`;
    by("matching").textContent = without ? `${count(rows.length - without)} of ${counted(rows.length, "row")} have their image; ${count(without)} ${without === 1 ? "lacks" : "lack"} it.` : rows.length === 1 ? "The row has its image." : `All ${counted(rows.length, "row")} have their image.`;
    by("missing").hidden = !without;
    by("missing").querySelector("summary").textContent = "Which images are missing";
    by("missing").querySelector("ul").replaceChildren(...[...reasons].map(([path, reason]) => make("li", {}, `${path}: ${reason}`)), ...(without > reasons.size ? [make("li", {}, "and more")] : []));
  }

  function buttons() {
    const left = rows.filter(row => !row.answer).length;
    by("start").disabled = Boolean(running) || !rows.length || !pictures.size || !left;
    by("start").textContent = !rows.length ? "Check all rows" : !left ? "All rows are checked" : started ? `Check the other ${counted(left, "row")}` : `Check ${counted(rows.length, "row")}`;
    by("cancel").hidden = !running;
    for (const id of ["image-column", "text-column", "slice-column", "batch-files", "batch-folder", "model"]) by(id).disabled = Boolean(running);
    by("files-card").setAttribute("aria-disabled", Boolean(running));
  }

  async function run() {
    const {facts, model} = served();
    if (!facts) return;
    tell(by("batch-problem"), "");
    running = new AbortController();
    const {signal} = running, before = rows.filter(row => row.answer).length, start = performance.now();
    const find = path => pictures.find(path);
    if (!started) table.show(rows, find, sheet);
    started = true;
    buttons();
    by("cancel").focus();
    by("progress-field").hidden = false;
    by("batch-status").textContent = `Checking ${counted(rows.length - before, "row")}.`;
    const progress = note => {
      const ready = rows.filter(row => row.answer).length, rate = (ready - before) / Math.max(0.001, (performance.now() - start) / 1000);
      by("progress").max = rows.length;
      by("progress").value = ready;
      const left = ready > before && ready < rows.length ? `, about ${lasting((rows.length - ready) / rate)} left` : "";
      by("progress-words").textContent = `${count(ready)} of ${counted(rows.length, "row")}${left}${note ? `; ${note}` : ""}`;
      table.refresh();
    };
    let problem = null;
    try {
      await scoreRows(rows, {limits: facts.limits, find, model, signal, done: () => progress(""), busy: seconds => progress(`the service is busy, asking again in ${seconds} s`)});
    } catch (error) {
      problem = error;
    }
    running = null;
    progress("");
    finish(problem, signal.aborted);
  }

  function finish(problem, cancelled) {
    const had = by("cancel") === document.activeElement;
    buttons();
    const left = rows.filter(row => !row.answer).length;
    by("batch-status").textContent = `${cancelled ? "Cancelled" : problem ? "Stopped" : "Done"}: ${summary(rows)}.`;
    by("progress-words").textContent = by("batch-status").textContent;
    if (problem && !cancelled) tell(by("batch-problem"), `Stopped with ${counted(left, "row")} left: ${problem.message}. The button above goes on from there.`);
    if (had) (left ? by("start") : by("results-title")).focus();
    table.redraw();
  }

  return {match: () => { if (!running) { columns(); match(); } }};
}

const described = sheet => `${counted(sheet.rows.length, "row")}${sheet.encoding === "windows-1252" ? ", not UTF-8, read as windows-1252" : ""}`;
const lasting = seconds => seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;

async function readSheet(blob, name) {
  if (blob.size > MOST_CSV) throw new Error(`it has more than ${count(MOST_CSV)} bytes; split it`);
  const {text, encoding} = decode(await blob.arrayBuffer());
  const found = parse(text);
  if (!found.rows.length) throw new Error("there are no rows under the header");
  return {...found, encoding, name};
}
