// Requests to the server this page is from: the key, health, and the figures of the last minute.

import { Sample } from "./metrics.js";

const KEY = "pie-key";
// What is shown is a minute; rates look a little behind its beginning.
const KEPT_MS = 75_000;
const POLL_MS = 1000;
// A server that does not answer is asked less often.
const PATIENCE_MS = 8000;
// For a key that does not open /stats, until it is tried again.
const REFUSED_MS = 10_000;

/** What the server said other than 2xx; `status` is 0 where nothing was said. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * The server. Tells by events: `health` (the word of /health, or `unreachable`), `sample` (figures have come), `key`
 * (one is wanted), `entered` (the key is right, or none is needed).
 */
export class Server extends EventTarget {
  key = sessionStorage.getItem(KEY) ?? "";
  health = "connecting";
  /** Whether /stats may be asked: true, false, or null as long as that is not known. */
  seesAll = null;
  /** Whether the server has taken what was given for a key. */
  isIn = false;
  history = [];

  setKey(key) {
    this.key = key;
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
    this.seesAll = null;
    this.isIn = false;
    this.history = [];
    this.poll();
  }

  /** A request with the key. Throws `ServerError` for whatever is no 2xx. */
  async request(path, { timeout, ...options } = {}) {
    const headers = { ...(options.headers ?? {}) };
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    const signal = options.signal ?? (timeout ? AbortSignal.timeout(timeout) : undefined);
    let response;
    try {
      response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new ServerError(0, `the server does not answer: ${error.message}`);
    }
    if (response.ok) return response;
    const body = await response.json().catch(() => null);
    throw new ServerError(response.status, body?.error?.message ?? body?.status ?? `status ${response.status}`);
  }

  /** Asks now and from then on. Of two calls the later one counts. */
  async poll() {
    clearTimeout(this.timer);
    const turn = (this.turn = {});
    const begin = performance.now();
    try {
      await this.ask(turn);
    } finally {
      if (turn === this.turn) {
        const pause = this.health === "unreachable" ? 3 * POLL_MS : POLL_MS;
        this.timer = setTimeout(() => this.poll(), Math.max(100, pause - (performance.now() - begin)));
      }
    }
  }

  async ask(turn) {
    // One after the other, so that among the requests that run there is one of this page and no more.
    const health = await this.askHealth().catch(() => "unreachable");
    const [figures] = await Promise.allSettled([this.askFigures()]);
    if (turn !== this.turn) return;
    this.setHealth(health);
    if (figures.status === "fulfilled") {
      if (figures.value) {
        this.enter(true);
        this.add(figures.value);
      }
      return;
    }
    const { status } = figures.reason;
    if (status === 403) {
      this.refused = performance.now();
      this.enter(false);
    } else if (status === 401) {
      this.isIn = false;
      this.dispatchEvent(new CustomEvent("key", { detail: figures.reason.message }));
    }
  }

  async askHealth() {
    try {
      return (await (await this.request("/health", { timeout: PATIENCE_MS })).json()).status;
    } catch (error) {
      if (error.status === 503) return error.message;
      throw error;
    }
  }

  async askFigures() {
    // A key that does not open them will not do so in a second either; one that was taken away is noticed this way.
    if (this.seesAll === false && performance.now() - this.refused < REFUSED_MS) return null;
    return new Sample(await (await this.request("/stats", { timeout: PATIENCE_MS })).json());
  }

  setHealth(health) {
    if (health === this.health) return;
    this.health = health;
    this.dispatchEvent(new Event("health"));
  }

  enter(seesAll) {
    const isNew = !this.isIn || this.seesAll !== seesAll;
    [this.isIn, this.seesAll] = [true, seesAll];
    if (isNew) this.dispatchEvent(new Event("entered"));
  }

  add(sample) {
    const last = this.history.at(-1);
    // After a restart the counters begin anew: what was before tells nothing about what comes.
    if (last && last.started !== sample.started) this.history = [];
    this.history.push(sample);
    while (this.history[0].at < sample.at - KEPT_MS) this.history.shift();
    this.dispatchEvent(new Event("sample"));
  }

  /** Names of the models that the key may use. */
  async models() {
    const answer = await (await this.request("/v1/models", { timeout: PATIENCE_MS })).json();
    return answer.data.map((model) => model.id);
  }
}
