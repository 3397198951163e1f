// The table of results: filters, order, pages, and the CSV to download.

import {by, count, counted, make} from "./dom.js";
import {format, guarded} from "./csv.js";
import {badge, figure} from "./result.js";

const PAGE = 50;  // rows
const LARGEST = 32 * 2 ** 20;  // bytes of an image that is shown
const DECISIONS = ["mismatch", "review", "match", "error"];
const NAMES = {all: "All", mismatch: "Mismatch", review: "Review", match: "Match", error: "No score"};
const ADDED = ["similarity_score", "threshold", "prediction", "status"];
const LATER = "not checked yet";

/** Wire the table; `look(row)` opens a row in the other tab. Returns `show(rows, find, sheet)` and `refresh()`. */
export function resultsTable(look) {
  let rows = [], find = null, sheet = null;
  let decision = "all", page = 0;
  let drawn = new Map();  // row → {answer, element, url}: rows on this page are made again only when their answer is another one

  by("search").addEventListener("input", () => turn(0));
  by("order").addEventListener("change", () => turn(0));
  by("before").addEventListener("click", () => turn(page - 1));
  by("after").addEventListener("click", () => turn(page + 1));
  by("download").addEventListener("click", download);

  function turn(to) {
    page = to;
    draw();
  }

  /** The rows that the filters leave, in the chosen order. */
  function selected() {
    const words = by("search").value.trim().toLowerCase();
    const found = rows.filter(row => (decision === "all" || row.answer?.prediction === decision) && (!words || `${row.text}\n${row.image}`.toLowerCase().includes(words)));
    const order = by("order").value;
    if (order === "file") return found;
    const sign = order === "up" ? 1 : -1;
    const score = row => row.answer?.similarity_score ?? null;
    return found.sort((a, b) => (score(a) === null) - (score(b) === null) || sign * ((score(a) ?? 0) - (score(b) ?? 0)) || a.number - b.number);
  }

  function draw() {
    const found = selected(), pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(0, page), pages - 1);
    const part = found.slice(page * PAGE, (page + 1) * PAGE);
    const before = drawn;
    drawn = new Map();
    for (const row of part) drawn.set(row, before.get(row)?.answer === row.answer ? before.get(row) : line(row));
    for (const [row, one] of before) if (drawn.get(row) !== one) URL.revokeObjectURL(one.url);
    by("table").tBodies[0].replaceChildren(...[...drawn.values()].map(one => one.element));
    by("table").hidden = !part.length;
    by("shown").textContent = part.length ? `Rows ${count(page * PAGE + 1)} to ${count(page * PAGE + part.length)} of ${count(found.length)}` : "No row is like that.";
    by("pager").hidden = pages === 1;
    by("page-number").textContent = `Page ${page + 1} of ${pages}`;
    by("before").disabled = page === 0;
    by("after").disabled = page === pages - 1;
    chips();
  }

  function chips() {
    const tally = {all: rows.length};
    for (const row of rows) if (row.answer) tally[row.answer.prediction] = (tally[row.answer.prediction] ?? 0) + 1;
    const place = by("decisions");
    if (!place.children.length) {
      place.append(...["all", ...DECISIONS].map(name => make("button", {type: "button", "data-name": name, click: () => { decision = name; turn(0); }},
        make("span", {class: `tone ${name}`}, NAMES[name]), make("b"))));
    }
    for (const button of place.children) {
      button.setAttribute("aria-pressed", button.dataset.name === decision);
      button.querySelector("b").textContent = count(tally[button.dataset.name] ?? 0);
    }
  }

  function line(row) {
    const answer = row.answer, one = {answer, url: "", element: null}, score = answer?.similarity_score ?? null, picture = pictureOf(row);
    const cell = (attributes, ...children) => make("td", {role: "cell", ...attributes}, ...children);
    const why = answer?.prediction === "error" ? make("span", {class: "why"}, answer.status) : null;
    const text = row.text.trim() ? row.text : make("span", {class: "faint"}, "no text");
    const closer = {type: "button", class: "quiet look", "aria-label": `Look closer at row ${row.number}`, click: () => look(row, picture)};
    one.element = make("tr", {role: "row"},
      cell({class: "number faint"}, count(row.number)),
      cell({class: "thumbs"}, picture && thumbnail(row, one, picture)),
      cell({}, text, make("span", {class: "path"}, row.image), why),
      cell({class: "number"}, score === null ? null : figure(score)),
      cell({}, answer ? badge(answer.prediction) : make("span", {class: "faint"}, LATER)),
      cell({}, score === null ? null : make("button", closer, "Look closer")));
    return one;
  }

  function pictureOf(row) {
    try {
      return row.damage ? null : find(row.image);
    } catch {
      return null;
    }
  }

  function thumbnail(row, one, picture) {
    const image = make("img", {alt: "", hidden: true, load: () => { image.hidden = false; }});
    picture.open(LARGEST).then(blob => {
      if (drawn.get(row) === one) image.src = one.url = URL.createObjectURL(blob);
    }, () => {});
    return image;
  }

  function download() {
    const guard = by("guard").checked, clean = guard ? guarded : cell => cell;
    const text = format(records(by("only-shown").checked ? selected() : rows, sheet).map(record => record.map(cell => clean(String(cell)))), sheet.delimiter);
    const url = URL.createObjectURL(new Blob([guard ? "\ufeff" : "", text], {type: "text/csv"}));
    const name = `${sheet.name.replace(/\.[^.]*$/, "")}-checked.csv`;
    make("a", {href: url, download: name}).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  return {
    show(newRows, newFind, newSheet) {
      [rows, find, sheet, decision, page] = [newRows, newFind, newSheet, "all", 0];
      for (const one of drawn.values()) URL.revokeObjectURL(one.url);
      drawn = new Map();
      by("search").value = "";
      by("order").value = "file";
      by("results").hidden = !rows.length;
      draw();
    },
    /** After new answers; the table itself stays while somebody is inside it. */
    refresh() {
      if (by("table").contains(document.activeElement)) chips();
      else draw();
    },
    redraw: draw,
  };
}

/**
 * Header and rows: the columns of the file, those that an earlier download added left out, and what is said of each row. A
 * column of the user's own that has such a name is called input_…, as in the files that `mismatch predict` writes.
 */
export function records(rows, {header}) {
  const own = header.length - ADDED.length, again = own >= 0 && ADDED.every((name, i) => header[own + i] === name);
  const kept = renamed(again ? header.slice(0, own) : header).map((name, at) => ({name, at}));
  const said = ({answer}) => answer ? [answer.similarity_score ?? "", answer.threshold ?? "", answer.prediction, answer.status] : ["", "", "", LATER];
  return [[...kept.map(({name}) => name), ...ADDED], ...rows.map(row => [...kept.map(({at}) => row.cells[at] ?? ""), ...said(row)])];
}

function renamed(header) {
  const taken = new Set([...header, ...ADDED]);
  return header.map(name => {
    let other = name;
    while (ADDED.includes(other) || (other !== name && taken.has(other))) other = `input_${other}`;
    taken.add(other);
    return other;
  });
}

/** "12 mismatches, 3 to review, 85 matches, 1 without a score" */
export function summary(rows) {
  const tally = name => rows.filter(row => row.answer?.prediction === name).length;
  return `${counted(tally("mismatch"), "mismatch", "mismatches")}, ${count(tally("review"))} to review, ${counted(tally("match"), "match", "matches")}, ${count(tally("error"))} without a score`;
}
