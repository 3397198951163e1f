// Zip files, read in place: the table at the end first, then each entry when it is wanted. Stored and deflated entries, bounded sizes.

const END = 0x06054b50, ENTRY = 0x02014b50, LOCAL = 0x04034b50;
const LONGEST_END = 65_557;  // bytes: the end's record and the longest comment
const MAX_DIRECTORY_BYTES = 64 * 2 ** 20;  // bytes
const ENCRYPTED = 1, UTF8 = 0x800;
const STORED = 0, DEFLATED = 8;

/** A Blob → [{path, size, read(most)}], folders left out. Error in words for what is no zip, or no zip of a kind that can be read. */
export async function entriesOf(blob) {
  const {table, number} = await tableOf(blob);
  const found = [];
  for (let at = 0, left = number; left > 0; left -= 1) {
    if (at + 46 > table.byteLength || table.getUint32(at, true) !== ENTRY) throw new Error("the zip’s table of contents is damaged");
    const lengths = [28, 30, 32].map(offset => table.getUint16(at + offset, true));  // of name, extra, comment
    const name = new Uint8Array(table.buffer, at + 46, Math.min(lengths[0], table.byteLength - at - 46));
    const flags = table.getUint16(at + 8, true);
    const entry = {
      path: nameOf(name, flags),
      encrypted: (flags & ENCRYPTED) !== 0,
      method: table.getUint16(at + 10, true),
      crc: table.getUint32(at + 16, true),
      packed: table.getUint32(at + 20, true),
      size: table.getUint32(at + 24, true),
      offset: table.getUint32(at + 42, true),
    };
    if (!entry.path.endsWith("/")) found.push({path: entry.path, size: entry.size, read: most => contentOf(blob, entry, most)});
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return found;
}

/** The table of contents, by the record at the zip's end. */
async function tableOf(blob) {
  const tail = await viewOf(blob, Math.max(0, blob.size - LONGEST_END), blob.size);
  for (let at = tail.byteLength - 22; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) !== END || at + 22 + tail.getUint16(at + 20, true) > tail.byteLength) continue;
    const number = tail.getUint16(at + 10, true), length = tail.getUint32(at + 12, true), start = tail.getUint32(at + 16, true);
    if (number === 0xffff || start === 0xffffffff) throw new Error("the zip has more than 65,534 files or 4 GB; unpack it and choose its folder");
    if (length > MAX_DIRECTORY_BYTES || start + length > blob.size) throw new Error("the zip’s table of contents is damaged");
    return {table: await viewOf(blob, start, start + length), number};
  }
  throw new Error("the file is no zip, or it is cut short");
}

async function viewOf(blob, start, end) {
  return new DataView(await blob.slice(start, end).arrayBuffer());
}

function nameOf(bytes, flags) {
  try {
    return new TextDecoder("utf-8", {fatal: true}).decode(bytes);
  } catch {
    return new TextDecoder(flags & UTF8 ? "utf-8" : "windows-1252").decode(bytes);
  }
}

/** A Blob of at most `most` bytes; Error for more, whatever size the table claims. */
async function contentOf(blob, entry, most) {
  if (entry.encrypted) throw new Error("it is encrypted in the zip");
  if (entry.method !== STORED && entry.method !== DEFLATED) throw new Error(`it is packed by method ${entry.method}; zip again with Deflate`);
  if (entry.size > most) throw new Error(tooLarge(most));
  if (entry.method === STORED && entry.packed !== entry.size) throw new Error("it is damaged in the zip");
  const head = await viewOf(blob, entry.offset, entry.offset + 30);
  if (head.byteLength < 30 || head.getUint32(0, true) !== LOCAL) throw new Error("it is damaged in the zip");
  const start = entry.offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = blob.slice(start, start + entry.packed);
  const parts = entry.method === STORED ? [new Uint8Array(await packed.arrayBuffer())] : await inflated(packed, most);
  const whole = new Blob(parts);
  if (whole.size > most) throw new Error(tooLarge(most));
  if (whole.size !== entry.size || checksum(parts) !== entry.crc) throw new Error("it is damaged in the zip");
  return whole;
}

const tooLarge = most => `it has more than ${most.toLocaleString("en")} bytes`;

async function inflated(packed, most) {
  const reader = packed.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const {done, value} = await reader.read().catch(() => { throw new Error("it is damaged in the zip"); });
    if (done) return parts;
    parts.push(value);
    size += value.length;
    if (size > most) {
      reader.cancel().catch(() => {});
      throw new Error(tooLarge(most));
    }
  }
}

const TABLE = Uint32Array.from({length: 256}, (_, number) => {
  for (let bit = 0; bit < 8; bit += 1) number = number & 1 ? 0xedb88320 ^ (number >>> 1) : number >>> 1;
  return number;
});

/** CRC-32 of all parts in turn. */
function checksum(parts) {
  let crc = 0xffffffff;
  for (const part of parts) for (let at = 0; at < part.length; at += 1) crc = TABLE[(crc ^ part[at]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
