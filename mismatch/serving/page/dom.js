// Elements of the page, made and found; texts reach it as text only, never as markup.

/** The element with this id. */
export const by = id => document.getElementById(id);

/** A new element; `attributes` with `class`, `hidden` and so on; functions in it are listeners. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child != null));
  return element;
}

/** Show a message in a place that is hidden while there is none; `extra` is an element after it. */
export function tell(place, message, extra = null) {
  place.hidden = !message;
  place.replaceChildren(...[message || "", extra].filter(Boolean));
}

/** 1,234 */
export const count = number => number.toLocaleString("en");

/** "1 row", "2 rows"; `many` where an s is not enough. */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Names of what a drop or a paste brings as files, those of folders with their paths: [{path, file}]. */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter(item => item.kind === "file");
  const entries = items.map(item => item.webkitGetAsEntry?.() ?? item.getAsFile());  // all before the first wait: the list is emptied then
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({path: entry.name, file: entry});
    else if (entry) await walk(entry, found);
  }
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({path: entry.fullPath, file});
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return;
    for (const child of part) await walk(child, found);
  }
}

/** Let files be dropped on `place`; `take` is given what `droppedFiles` finds. */
export function dropping(place, take) {
  let depth = 0;
  const holds = event => [...event.dataTransfer.types].includes("Files");
  const light = change => { depth = Math.max(0, depth + change); place.classList.toggle("over", depth > 0); };
  place.addEventListener("dragenter", event => { if (holds(event)) { event.preventDefault(); light(1); } });
  place.addEventListener("dragover", event => { if (holds(event)) event.preventDefault(); });
  place.addEventListener("dragleave", event => { if (holds(event)) light(-1); });
  place.addEventListener("drop", async event => {
    if (!holds(event)) return;
    event.preventDefault();
    light(-depth);
    take(await droppedFiles(event.dataTransfer));
  });
}
