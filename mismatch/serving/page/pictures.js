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

/** Images by their paths. */
export class Pictures {
  #byName = new Map();  // file name in lower case → [{path, open}]
  size = 0;

  /** `open()` gives a Blob. */
  add(path, open) {
    const entry = {path: plain(path), open};
    const name = nameOf(entry.path);
    this.#byName.set(name, [...(this.#byName.get(name) ?? []), entry]);
    this.size += 1;
  }

  /** The one that a path means: by the path, by as much of its end as one of the two has, or by its file name where that is unique. Error in words. */
  find(path) {
    const wanted = plain(path);
    const same = this.#byName.get(nameOf(wanted)) ?? [];
    if (!wanted) throw new Error("the row names no image");
    if (!same.length) throw new Error("no image of this name was chosen");
    const tests = [
      entry => entry.path === wanted,
      entry => entry.path.endsWith(`/${wanted}`) || wanted.endsWith(`/${entry.path}`),
      entry => entry.path.split("/").at(-1) === wanted.split("/").at(-1),
      () => true,
    ];
    for (const test of tests) {
      const found = same.filter(test);
      if (found.length === 1) return found[0];
      if (found.length > 1) throw new Error(`${found.length} images have this name; write more of the path`);
    }
    throw new Error("no image of this name was chosen");
  }
}

const nameOf = path => path.split("/").at(-1).toLowerCase();
