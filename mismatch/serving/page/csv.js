// CSV (RFC 4180) read and written: quotes, line ends inside them, CRLF, a byte order mark; semicolons or tabs where the header has them.

const FORMULA = /^[=+\-@\t\r]/;
const MAX_FIELDS = 4096, MAX_ROWS = 1_000_000;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

/** Bytes → {text, encoding}; UTF-8, or UTF-16 with its mark, else windows-1252. */
export function decode(bytes) {
  const view = new Uint8Array(bytes);
  const marked = view[0] === 0xff && view[1] === 0xfe ? "utf-16le" : view[0] === 0xfe && view[1] === 0xff ? "utf-16be" : "utf-8";
  try {
    return {text: new TextDecoder(marked, {fatal: true}).decode(view), encoding: marked};
  } catch {
    return {text: new TextDecoder("windows-1252").decode(view), encoding: "windows-1252"};
  }
}

/**
 * Text → {header, rows: [{line, cells}], delimiter}; blank lines are left out. Error for a quote that is never closed, no header,
 * or more columns or rows than the page can show.
 */
export function parse(text) {
  const clean = text.startsWith("\ufeff") ? text.slice(1) : text;
  const delimiter = delimiterOf(clean);
  const records = recordsOf(clean, delimiter);
  if (!records.length) throw new Error("the CSV is empty");
  const [{cells: header}, ...rows] = records;
  return {header: header.map(name => name.trim()), rows, delimiter};
}

/** The one of comma, semicolon and tab that the header has most often outside quotes. */
function delimiterOf(text) {
  const tally = {",": 0, ";": 0, "\t": 0};
  let quoted = false;
  for (const char of text) {
    if (char === '"') quoted = !quoted;
    else if (!quoted && (char === "\n" || char === "\r")) break;
    else if (!quoted && char in tally) tally[char] += 1;
  }
  return Object.keys(tally).reduce((best, one) => tally[one] > tally[best] ? one : best, ",");
}

function recordsOf(text, delimiter) {
  const records = [];
  let at = 0, line = 1, cells = [], start = 1, quoted = false;
  const ends = new RegExp(`[${delimiter}\r\n]`, "g");
  const endRecord = () => {
    if (cells.length > 1 || cells[0] !== "" || quoted) records.push({line: start, cells});
    cells = [];
    quoted = false;
    if (records.length > MAX_ROWS + 1) throw new Error(`the CSV has more than ${MAX_ROWS.toLocaleString("en")} rows; split it`);
  };
  while (at < text.length) {
    if (cells.length > MAX_FIELDS) throw new Error(`line ${line} has more than ${MAX_FIELDS.toLocaleString("en")} fields`);
    if (text[at] === '"') {
      const field = quotedField(text, at, line, delimiter);
      cells.push(field.value);
      quoted = true;
      line += field.lines;
      at = field.end;
    } else {
      ends.lastIndex = at;
      const end = ends.exec(text)?.index ?? text.length;
      cells.push(text.slice(at, end));
      at = end;
    }
    if (text[at] === delimiter) {
      at += 1;
      if (at === text.length) cells.push("");
      else if (text[at] === "\n" || text[at] === "\r") { cells.push(""); at = lineEnd(); }
    } else if (at < text.length) at = lineEnd();
  }
  if (cells.length) endRecord();
  return records;

  function lineEnd() {
    const next = text[at] === "\r" && text[at + 1] === "\n" ? at + 2 : at + 1;
    line += 1;
    endRecord();
    start = line;
    return next;
  }
}

/** From its opening quote: the value, where it ends, and how many line ends lie in it. */
function quotedField(text, at, line, delimiter) {
  let end = at + 1;
  for (;;) {
    end = text.indexOf('"', end);
    if (end < 0) throw new Error(`the quote that begins on line ${line} is never closed`);
    if (text[end + 1] !== '"') break;
    end += 2;
  }
  const inside = text.slice(at + 1, end).replaceAll('""', '"');
  if (end + 1 < text.length && ![delimiter, "\r", "\n"].includes(text[end + 1])) {
    throw new Error(`line ${line}: characters stand after a closing quote; write a quote inside a field twice`);
  }
  return {value: inside, end: end + 1, lines: (inside.match(/\r\n|\r|\n/g) ?? []).length};
}

/** Records → text, lines ending in CRLF. */
export function format(records, delimiter = ",") {
  const quoted = cell => /["\r\n,;\t]/.test(cell) || cell !== cell.trim() ? `"${cell.replaceAll('"', '""')}"` : cell;
  const line = record => record.map(cell => quoted(String(cell))).join(delimiter) || '""';  // a blank line would be no record
  return records.map(record => `${line(record)}\r\n`).join("");
}

/** The cell, with an apostrophe before what a spreadsheet program would take for a formula; numbers stay. */
export function guarded(cell) {
  return FORMULA.test(cell) && !NUMBER.test(cell) ? `'${cell}` : cell;
}
