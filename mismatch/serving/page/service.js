// Requests to this service: the bearer token, problem documents (RFC 9457), and patience where it is busy.

const KEPT = "mismatch-token";
const MOST_WAITS = 60;  // times that a busy service is asked again
const LONGEST_WAIT = 30;  // seconds

/** What the service refuses, or that it can't be reached (status 0). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token = sessionStorage.getItem(KEPT) ?? "";
let asking = null;  // one question for a token at a time, for anyone who waits for it
let questioner = async () => "";

/** `ask(wrong)` gives a token, or "" where the user has none; `wrong`: the one so far was refused. */
export function askTokensWith(ask) { questioner = ask; }

/** JSON of GET, or of POST where there is a `body` (an object, or JSON as a string). `busy(seconds)` receives each wait. */
export async function call(path, {body, signal, busy = () => {}} = {}) {
  for (let waits = 0; ; ) {
    const sent = token;
    const response = await request(path, body, signal);
    if (response.ok) return response.json();
    const problem = await problemOf(response);
    if (response.status === 401) {
      if (sent === token && !(await newToken(sent !== ""))) throw problem;
    } else if (response.status === 503 && waits < MOST_WAITS) {
      const seconds = Math.min(LONGEST_WAIT, Math.max(1, Number(response.headers.get("retry-after")) || 1));
      waits += 1;
      busy(seconds);
      await pause(seconds, signal);
    } else throw problem;
  }
}

async function request(path, body, signal) {
  const headers = {accept: "application/json"};
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const content = typeof body === "object" ? JSON.stringify(body) : body;
  try {
    return await fetch(path, {method: body === undefined ? "GET" : "POST", headers, body: content, signal, cache: "no-store", redirect: "error"});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the service can’t be reached; it may have stopped");
  }
}

async function problemOf(response) {
  let detail = "";
  try {
    ({detail} = await response.json());
  } catch { /* a proxy's page */ }
  return new Problem(response.status, typeof detail === "string" && detail ? detail : `the service answered ${response.status}`);
}

async function newToken(wrong) {
  asking ??= questioner(wrong).finally(() => { asking = null; });
  const given = await asking;
  if (!given) return false;
  token = given;
  sessionStorage.setItem(KEPT, token);
  return true;
}

/** Wait; an abort ends it at once. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const ended = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", ended); resolve(); }, 1000 * seconds);
    if (signal?.aborted) ended();
    else signal?.addEventListener("abort", ended, {once: true});
  });
}
