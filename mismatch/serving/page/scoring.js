// Rows → answers, by requests of bounded size: each image once a request, smaller requests where the service is slow, a bad row by itself.

import {Problem, call, pause} from "./service.js";
import {base64, checkPicture} from "./pictures.js";

const FIRST = 8;  // pairs of the first request
const QUICK = 1, SLOW = 5;  // seconds of a request, from which the next is larger or smaller
const MAX_BODY_BYTES = 8 * 2 ** 20;  // bytes of a request, however many the service takes: progress shows and a cancel is soon
const OVERHEAD = 200;  // bytes of a pair's names
const RETRIES = [1, 2, 4];  // seconds, where the service can't be reached

/** A row without a score. */
export const failed = reason => ({similarity_score: null, threshold: null, prediction: "error", status: reason});

/**
 * Give each of `rows` ({image: path, text, slice, damage, answer}) its `answer`, those that have one left alone.
 * `find(path)` gives {path, open}; `done(rows)` receives each that is finished; rejects with the abort's reason, or a Problem that ends it all.
 */
export async function scoreRows(rows, {limits, find, model, signal, done, busy}) {
  const waiting = [];
  for (const row of rows.filter(one => !one.answer)) {
    const picture = local(row, find, limits);
    if (picture) waiting.push({row, picture});
  }
  done();
  const order = new Map();  // pictures as they come first, so that the rows of one go together
  for (const {picture} of waiting) if (!order.has(picture)) order.set(picture, order.size);
  waiting.sort((a, b) => order.get(a.picture) - order.get(b.picture));
  const sender = new Sender({limits, model, signal, done, busy});
  for (let at = 0; at < waiting.length; ) at += await sender.next(waiting, at);
}

/** The row's picture; without one the row is answered. */
function local(row, find, limits) {
  try {
    if (row.damage) throw new Error(row.damage);
    const picture = find(row.image);
    if (!row.text.trim()) throw new Error("the text is empty");
    if (row.text.length > limits.max_text && [...row.text].length > limits.max_text) throw new Error(`the text has more than ${limits.max_text.toLocaleString("en")} characters`);
    return picture;
  } catch (error) {
    row.answer = failed(error.message);
    return null;
  }
}

class Sender {
  constructor(options) {
    Object.assign(this, options);
    this.size = Math.min(FIRST, this.limits.max_pairs);
    this.budget = Math.min(MAX_BODY_BYTES, this.limits.max_body - 4096);
  }

  /** Send the next rows from `at` on; how many they were. */
  async next(waiting, at) {
    const {jobs, taken} = await this.#gather(waiting, at);
    const start = performance.now();
    if (jobs.length) await this.#send(jobs);
    const seconds = (performance.now() - start) / 1000;
    if (seconds < QUICK && jobs.length >= this.size) this.size = Math.min(2 * this.size, this.limits.max_pairs);
    if (seconds > SLOW) this.size = Math.max(1, this.size >> 1);
    this.done();
    return taken;
  }

  /** As many rows as go into a request, their images read; rows whose image can't be read are answered. */
  async #gather(waiting, at) {
    const contents = new Map(), jobs = [];
    let bytes = 0, taken = 0;
    while (at + taken < waiting.length && jobs.length < this.size) {
      this.signal.throwIfAborted();
      const {row, picture} = waiting[at + taken];
      let content = contents.get(picture);
      if (content === undefined) {
        content = await this.#read(picture);
        contents.set(picture, content);
      }
      if (content.error) row.answer = failed(content.error);
      else {
        const more = new Blob([JSON.stringify(row.text), row.slice ?? ""]).size + OVERHEAD + (content.counted ? 0 : content.data.length);
        if (jobs.length && bytes + more > this.budget) break;
        content.counted = true;
        bytes += more;
        jobs.push({row, data: content.data});
      }
      taken += 1;
    }
    return {jobs, taken};
  }

  async #read(picture) {
    try {
      const blob = await picture.open(this.limits.max_image);
      await checkPicture(blob, this.limits.max_image);
      return {data: await base64(blob)};
    } catch (error) {
      return {error: error.message};
    }
  }

  /** One request; where it is refused for one image, again without it; where for another reason, in halves. */
  async #send(jobs) {
    const {body, names} = bodyOf(jobs, this.model);
    let answers;
    try {
      ({answers} = await this.#patiently(body));
    } catch (error) {
      if (!(error instanceof Problem) || ![400, 413, 422, 504].includes(error.status)) throw error;
      const [, name, reason] = /^image '(i\d+)': ([^]*)$/.exec(error.message) ?? [];
      const bad = jobs.filter(job => name !== undefined && names.get(job.data) === name);
      if (bad.length) {
        for (const {row} of bad) row.answer = failed(reason);
        const rest = jobs.filter(job => !bad.includes(job));
        if (rest.length) await this.#send(rest);
      } else if (jobs.length === 1) jobs[0].row.answer = failed(error.message);
      else {
        this.size = Math.max(1, Math.min(this.size, jobs.length >> 1));
        await this.#send(jobs.slice(0, jobs.length >> 1));
        await this.#send(jobs.slice(jobs.length >> 1));
      }
      return;
    }
    jobs.forEach(({row}, number) => { row.answer = answers[number]; });
  }

  async #patiently(body) {
    for (const seconds of [...RETRIES, null]) {
      try {
        return await call("v1/predict/batch", {body, signal: this.signal, busy: this.busy});
      } catch (error) {
        if (seconds === null || !(error instanceof Problem) || error.status !== 0) throw error;
        this.busy(seconds);
        await pause(seconds, this.signal);
      }
    }
  }
}

/** The request's JSON, and the name of each image's data; equal images and texts are sent once. */
function bodyOf(jobs, model) {
  const names = new Map(), texts = new Map();
  const pairs = jobs.map(({row, data}) => {
    if (!names.has(data)) names.set(data, `i${names.size}`);
    if (!texts.has(row.text)) texts.set(row.text, `t${texts.size}`);
    return {image: names.get(data), text: texts.get(row.text), ...(row.slice == null ? {} : {slice_value: row.slice})};
  });
  const turned = map => Object.fromEntries([...map].map(([value, name]) => [name, value]));
  return {body: JSON.stringify({images: turned(names), texts: turned(texts), pairs, ...(model ? {model} : {})}), names};
}
