// Image files that the user chose, from disk, a folder or a zip: what they are, and which of them a path of a CSV means.

const ENDINGS = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|mpo)$/i;
const KNOWN = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF";

/** Whether a file's name is one of an image, and not one of the system's own. */
export const isPicture = path => ENDINGS.test(path) && !/(^|\/)(__MACOSX\/|\.)/.test(path);

/** Error in words for a Blob that the service would refuse: empty, too large, or of no known format. */
export async function checkPicture(blob, most) {
  if (!blob.size) throw new Error("the image is empty (0 bytes)");
  if (blob.size > most) throw new Error(`the image has ${blob.size.toLocaleString("en")} bytes; this service takes ${most.toLocaleString("en")}`);
  const head = String.fromCharCode(...new Uint8Array(await blob.slice(0, 16).arrayBuffer()));
  const known = /^(\xff\xd8\xff|\x89PNG|RIFF[^]{4}WEBP|GIF8|BM|II\*\0|MM\0\*|II\+\0|MM\0\+|[^]{4}ftyp)/.test(head);
  if (!known) throw new Error(`the file is no image of a known format; ${KNOWN} is needed`);
}

/** base64 of a Blob's bytes. */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file can’t be read; was it moved or changed?"));
    reader.readAsDataURL(blob);
  });
}

/** Slashes one way, no leading `./`, accents composed: paths of one file are then equal. */
export function plain(path) {
  return path.trim().replaceAll("\\", "/").replace(/^(\.?\/)+/, "").normalize("NFC");
}

const DEEPEST = 64;  // parts of a path that are compared, from its end

/** Images by their paths. */
export class Pictures {
  #exact = new Index();
  #folded = new Index();  // paths in lower case
  size = 0;

  /** `open()` gives a Blob. */
  add(path, open) {
    const entry = {path: plain(path), open, claim: null, torn: false};
    this.#exact.add(entry.path, entry);
    this.#folded.add(entry.path.toLowerCase(), entry);
    this.size += 1;
  }

  /**
   * What all rows write. An image chosen without its folder, `1.jpg`, is then given to no row where rows of two folders,
   * `bags/1.jpg` and `shoes/1.jpg`, would get it.
   */
  expect(paths) {
    for (const path of new Set(paths)) {
      const wanted = plain(path), found = this.#lookUp(wanted);
      if (found.length === 1) claim(found[0], wanted.toLowerCase());
    }
  }

  /** The one that a path means: the path itself, or one whose end is the path, or that is the path's end. Error in words. */
  find(path) {
    const wanted = plain(path);
    if (!wanted) throw new Error("the row names no image");
    const found = this.#lookUp(wanted);
    if (found.length > 1) throw new Error(`${found.length} images have this name; write more of the path`);
    if (!found.length) throw new Error("no image of this path was chosen");
    const [entry] = found;
    if (entry.torn && wanted.length > entry.path.length) throw new Error("rows of several folders mean this image; choose its folder instead of the file");
    return entry;
  }

  /** As it is written, else in whatever case; only where no image has all of the path, one whose own path is its end. */
  #lookUp(wanted) {
    const low = wanted.toLowerCase();
    return this.#exact.named(wanted) ?? this.#folded.named(low) ?? this.#exact.endOf(wanted) ?? this.#folded.endOf(low) ?? [];
  }
}

/** Values by paths and by the ends of paths; adding and finding take as long for the last as for the first. */
class Index {
  #whole = new Map();  // path → values
  #ends = new Map();  // each end of a path that begins behind a slash → values

  add(path, value) {
    put(this.#whole, path, value);
    for (const end of endsOf(path)) put(this.#ends, end, value);
  }

  /** Values whose path is this one, else those whose path ends so. */
  named(path) {
    return this.#whole.get(path) ?? this.#ends.get(path);
  }

  /** Values whose whole path is an end of this one, the longest there is. */
  endOf(path) {
    return this.#whole.get(endsOf(path).find(end => this.#whole.has(end)));
  }
}

function put(map, key, value) {
  const values = map.get(key);
  if (values) values.push(value);
  else map.set(key, [value]);
}

/** a/b/c → b/c, c; of a path of more than `DEEPEST` parts the shortest ones. */
function endsOf(path) {
  const starts = [];
  for (let at = path.lastIndexOf("/"); at >= 0 && starts.length < DEEPEST; at = path.lastIndexOf("/", at - 1)) {
    starts.push(at + 1);
    if (at === 0) break;
  }
  return starts.reverse().map(start => path.slice(start));
}

/**
 * Note that a row means an image. Of two paths that differ by more than their beginning the image can't be both, nor one with
 * more folders where a row names it as it was chosen.
 */
function claim(entry, wanted) {
  if (wanted.length < entry.path.length) return;
  if (wanted.length === entry.path.length) {
    entry.torn = true;
    return;
  }
  const earlier = entry.claim ?? wanted;
  const [longer, shorter] = earlier.length > wanted.length ? [earlier, wanted] : [wanted, earlier];
  if (longer !== shorter && !longer.endsWith(`/${shorter}`)) entry.torn = true;
  entry.claim = longer;
}
