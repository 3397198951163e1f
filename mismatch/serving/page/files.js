// What a choice of files brings: CSVs, zips, folders and single images, each as a source: {name, pictures: [{path, open}], sheet, packed}.

import {count, counted} from "./dom.js";
import {decode, parse} from "./csv.js";
import {isPicture} from "./pictures.js";
import {entriesOf} from "./zip.js";

const MAX_CSV_BYTES = 256 * 2 ** 20;  // bytes
const isTable = path => /\.(csv|tsv)$/i.test(path) && !/(^|\/)(__MACOSX\/|\.)/.test(path);

/** [{path, file}] → {sources, problems}; other files are passed over, unless there is just one. */
export async function sourcesOf(files) {
  const sources = [], problems = [], loose = [];
  for (const {path, file} of files) {
    try {
      if (/\.zip$/i.test(path)) sources.push(await zipSource(file));
      else if (isTable(path)) sources.push({name: file.name, pictures: [], sheet: await sheetOf(file, file.name), packed: false});
      else if (isPicture(path)) loose.push({path, open: async () => file});
      else if (files.length === 1) throw new Error("it is neither a CSV, a zip nor an image");
    } catch (error) {
      problems.push(`${path}: ${error.message}`);
    }
  }
  const sheets = sources.filter(source => source.sheet && !source.packed);
  if (sheets.length > 1) problems.push(`${sheets.length} CSVs were given; ${sheets.at(-1).name} is used`);
  return {sources: [...sources, ...folders(loose)], problems};
}

/** Images by the folder that they came in. */
function folders(loose) {
  const found = new Map();
  for (const one of loose) {
    const folder = /^\/?([^/]+)\//.exec(one.path)?.[1] ?? "";
    if (!found.has(folder)) found.set(folder, []);
    found.get(folder).push(one);
  }
  const nameOf = (folder, own) => folder ? `Folder ${folder}` : own.length === 1 ? own[0].path : "Single images";
  return [...found].map(([folder, own]) => ({name: nameOf(folder, own), pictures: own, sheet: null, packed: false}));
}

/** A zip's images, which are read when they are wanted, and its CSV where it has one. */
async function zipSource(file) {
  const entries = await entriesOf(file);
  const pictures = entries.filter(entry => isPicture(entry.path)).map(({path, read}) => ({path, open: read}));
  const tables = entries.filter(entry => isTable(entry.path));
  const [table] = tables;
  const sheet = tables.length === 1 ? await sheetOf(await table.read(MAX_CSV_BYTES), table.path.split("/").at(-1)) : null;
  if (!pictures.length && !sheet) throw new Error(tables.length ? `it holds ${tables.length} CSVs and no image; choose one CSV` : "it holds no image and no CSV");
  return {name: file.name, pictures, sheet, packed: true};
}

async function sheetOf(blob, name) {
  if (blob.size > MAX_CSV_BYTES) throw new Error(`it has more than ${count(MAX_CSV_BYTES)} bytes; split it`);
  const {text, encoding} = decode(await blob.arrayBuffer());
  const found = parse(text);
  if (!found.rows.length) throw new Error("there are no rows under the header");
  return {...found, encoding, name};
}

/** "131 images, pairs.csv with 140 rows"; `used`: the sheet whose rows are checked. */
export function inWords({pictures, sheet, packed}, used) {
  const parts = pictures.length ? [counted(pictures.length, "image")] : [];
  if (sheet) {
    parts.push(`${packed ? `${sheet.name} with ` : ""}${counted(sheet.rows.length, "row")}`);
    if (sheet.encoding === "windows-1252") parts.push("not UTF-8, read as windows-1252");
    if (sheet !== used) parts.push("not used");
  }
  return parts.join(", ");
}
