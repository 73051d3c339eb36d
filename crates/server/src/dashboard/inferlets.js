// The inferlets of this key's user: what is known of each, and what those that are watched write.

import { announce } from "./dom.js";
import { Session } from "./session.js";

const LIST_MS = 1000;
// A list of so many is asked for less often.
const LONG_LIST = 500;
const LONG_LIST_MS = 5000;
// Of the output of an inferlet this page keeps the last so many characters; a browser shows more only slowly.
const KEPT_CHARACTERS = 1 << 20;
// Inferlets that have ended and that this page still shows: those whose output it may have, and those that answered
// requests, which are shown only as bars of the last minute.
const KEPT_ENDED = 100;
const KEPT_ANSWERS = 400;
const KEPT_USAGES = 75;

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

class Inferlet {
  /** `running` or `ended`. */
  state = "running";
  /** How it ended where that is known: `finished`, `killed` or `failed`. */
  outcome = null;
  arguments = [];
  cpu = null;
  /** Sessions that take what it writes, once the server has said so. */
  clients = null;
  attachable = true;
  /** When it began and ended, on the clock of the page. */
  started = performance.now();
  ended = null;
  /** Whether it had ended before this page heard of it: nobody says when. */
  isOld = false;
  /** What it wrote: `{ kind, text }`, oldest first. */
  output = [];
  kept = 0;
  isCut = false;
  /** The number of its last event. */
  last = 0;
  /** Whether this page takes what it writes. */
  isWatched = false;

  constructor(id, program) {
    Object.assign(this, { id, program });
    this.decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  }

  get shown() {
    return this.outcome ?? this.state;
  }

  write(kind, text) {
    if (!text) return;
    const last = this.output.at(-1);
    if (last?.kind === kind && last.text.length < 4096) last.text += text;
    else this.output.push({ kind, text });
    this.kept += text.length;
    while (this.kept > KEPT_CHARACTERS && this.output.length > 1) {
      this.kept -= this.output.shift().text.length;
      this.isCut = true;
    }
  }

  take(event) {
    switch (event.type) {
      case "text":
        return this.write("text", event.text);
      case "blob":
        return this.write("note", `[${bytesOf(event.data).length} bytes]\n`);
      case "stdout":
      case "stderr":
        return this.write(event.type, this.decoders[event.type].decode(bytesOf(event.data), { stream: true }));
      case "result":
        this.write("result", event.text);
        return this.end("finished");
      case "error":
        this.write("failure", `${event.error.code}: ${event.error.message}`);
        return this.end(event.error.code === "killed" ? "killed" : "failed");
    }
  }

  end(outcome) {
    [this.state, this.outcome] = ["ended", outcome];
    this.ended ??= performance.now();
  }
}

/**
 * All of them. Tells by events: `list` (something is new of any), `listed` (the server has said which there are), `output` with
 * the id (it wrote something).
 */
export class Inferlets extends EventTarget {
  all = new Map();
  programs = [];
  usage = null;
  /** What the user had taken in the last minute: `{ at, usage }`. */
  usages = [];
  session = null;
  /** Why there is no session. */
  get why() {
    return this.session && !this.session.connected ? this.session.why : "";
  }

  /** Begins a session with a key, in place of the one before. */
  connect(key) {
    this.disconnect();
    this.all.clear();
    [this.programs, this.usage, this.usages] = [[], null, []];
    const session = (this.session = new Session(key));
    session.addEventListener("state", () => this.changed());
    session.addEventListener("fresh", () => this.begin());
    session.addEventListener("inferlet", ({ detail }) => this.take(detail));
    this.changed();
  }

  disconnect() {
    clearTimeout(this.timer);
    this.session?.end();
    this.session = null;
  }

  changed() {
    this.dispatchEvent(new Event("list"));
  }

  async begin() {
    clearTimeout(this.timer);
    // A session that could not be resumed is attached to nothing; what was launched in it and not detached has ended.
    for (const inferlet of this.all.values()) {
      const goesOn = inferlet.isWatched && inferlet.state === "running";
      inferlet.isWatched = false;
      if (goesOn) this.watch(inferlet).catch(() => {});
    }
    try {
      this.programs = (await this.session.call({ type: "programs" })).programs;
      this.changed();
    } catch (error) {
      announce(`The programs are not known: ${error.message}`);
    }
    this.list();
  }

  async list() {
    const { session } = this;
    if (!session) return;
    let pause = LIST_MS;
    try {
      const [listed, usage] = await Promise.all([session.call({ type: "list" }), session.call({ type: "usage" })]);
      if (session !== this.session) return;
      if (listed.inferlets.length > LONG_LIST) pause = LONG_LIST_MS;
      this.merge(listed.inferlets);
      this.usage = usage;
      this.usages.push({ at: performance.now(), usage });
      if (this.usages.length > KEPT_USAGES) this.usages.shift();
    } catch (error) {
      // Without a connection there is a new session, which begins here again.
      if (session !== this.session || error.code === "ended") return;
      pause = LONG_LIST_MS;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.list(), pause);
    this.changed();
    this.dispatchEvent(new Event("listed"));
  }

  merge(listed) {
    const now = performance.now();
    const ids = new Set();
    for (const { id, program, arguments: given, state, attachable, clients, age_ms, cpu_ms } of listed) {
      ids.add(id);
      let inferlet = this.all.get(id);
      if (!inferlet) {
        this.all.set(id, (inferlet = new Inferlet(id, program)));
        inferlet.isOld = state === "ended";
      }
      Object.assign(inferlet, { program, arguments: given, attachable, clients, cpu: cpu_ms / 1000 });
      if (inferlet.ended === null) inferlet.started = now - age_ms;
      if (state === "ended" && inferlet.state !== "ended") inferlet.end(null);
    }
    for (const inferlet of this.all.values()) {
      // Its last event may still be on its way, and says how it ended.
      if (inferlet.state === "running" && !ids.has(inferlet.id) && now - inferlet.started > 2 * LIST_MS) inferlet.end(null);
    }
    this.forget((inferlet) => inferlet.attachable, KEPT_ENDED);
    this.forget((inferlet) => !inferlet.attachable, KEPT_ANSWERS);
  }

  /** Of the inferlets of a kind that have ended, keeps so many: the last, and the one that is looked at. */
  forget(isOfKind, kept) {
    const ended = [...this.all.values()].filter((one) => one.ended !== null && one.id !== this.kept && isOfKind(one));
    ended.sort((a, b) => a.ended - b.ended);
    for (const { id } of ended.slice(0, Math.max(0, ended.length - kept))) this.all.delete(id);
  }

  take({ id, number, event }) {
    let inferlet = this.all.get(id);
    // The first event may come before the answer that says what was launched.
    if (!inferlet) this.all.set(id, (inferlet = new Inferlet(id, "…")));
    // Another session gives again what is kept.
    if (number <= inferlet.last) return;
    inferlet.last = number;
    inferlet.take(event);
    this.dispatchEvent(new CustomEvent("output", { detail: id }));
    if (inferlet.state === "ended") {
      announce(`${inferlet.program} has ${inferlet.outcome === "finished" ? "finished" : `ended: ${inferlet.outcome}`}`);
      this.changed();
    }
  }

  /** The pages that the inferlets of this user hold, and the contexts of one of them. */
  async pages(inferlet) {
    return (await this.session.call({ type: "pages", inferlet })).models;
  }

  /** What the server knows of a program. */
  describe(program) {
    return this.session.call({ type: "describe", program });
  }

  /** Starts a program; its id. */
  async launch(program, args, detached) {
    const id = await this.session.launch(program, args, detached);
    let inferlet = this.all.get(id);
    if (!inferlet) this.all.set(id, (inferlet = new Inferlet(id, program)));
    Object.assign(inferlet, { program, arguments: args, isWatched: true });
    announce(`${program} is launched`);
    this.changed();
    return id;
  }

  /** Takes what an inferlet writes, from the first that the server has. */
  async watch(inferlet) {
    if (inferlet.isWatched || !inferlet.attachable) return;
    inferlet.isWatched = true;
    try {
      await this.session.attach(inferlet.id);
    } catch (error) {
      inferlet.isWatched = false;
      throw error;
    }
  }

  kill(inferlet) {
    return this.session.call({ type: "terminate", inferlet: inferlet.id });
  }

  send(inferlet, text) {
    return this.session.call({ type: "send", inferlet: inferlet.id, message: { type: "text", text } });
  }

  endInput(inferlet) {
    return this.session.call({ type: "signal", inferlet: inferlet.id, signal: "end-of-input" });
  }
}
