// A session with the server: docs/protocol.md, in JSON. It is resumed when its connection is lost, so that nothing is
// missed and nothing comes twice.

const PATH = "/v1/session";
const VERSION = 1;
/** The subprotocol; behind it one with the key, since a browser sets no headers of a WebSocket. */
const PROTOCOL = "pie.v1";
const KEY_PROTOCOL = "pie.key.";
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
// A server that says nothing for so long while it is asked something is lost, though the connection may not know.
const SILENCE_MS = 30_000;
// Of an inferlet that goes on without this page, so much stays with the server for whoever comes back to it. The log of
// an inferlet holds 4096 events or 1 MiB by default, so the program never waits for this page.
const LEFT_EVENTS = 1024;
const LEFT_BYTES = 256 * 1024;

/** A call that the server refused, with the code of docs/protocol.md. */
export class CallError extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/**
 * Tells by events: `state` (it is connected or no longer), `fresh` (a new session has begun: nothing is attached),
 * and `inferlet` with `{ id, number, event }`.
 */
export class Session extends EventTarget {
  connected = false;
  /** What `welcome` said. */
  welcome = null;
  /** Why there is no connection. */
  why = "";

  constructor(key) {
    super();
    this.key = key;
    this.pending = new Map();
    this.attached = new Map();
    this.lastRequest = 0;
    this.pause = FIRST_PAUSE_MS;
    this.open();
  }

  open() {
    const url = new URL(PATH, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const protocols = this.key ? [PROTOCOL, KEY_PROTOCOL + this.key] : [PROTOCOL];
    try {
      this.socket = new WebSocket(url, protocols);
    } catch (error) {
      // A key with letters that no key has.
      this.lost(error.message);
      return;
    }
    const { socket } = this;
    socket.onopen = () => {
      const hello = { type: "hello", versions: [VERSION], client: "dashboard" };
      if (this.welcome) hello.session = this.welcome.session;
      socket.send(JSON.stringify(hello));
    };
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return;
      this.heard = performance.now();
      this.take(JSON.parse(data));
    };
    socket.onclose = () => this.socket === socket && this.lost(this.closing ?? "no WebSocket is answered");
  }

  /** Ends the session, and with it the inferlets that it has launched and that are not detached. */
  end() {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    this.connected = false;
    clearInterval(this.watch);
    socket?.close(1000);
    this.fail({ code: "ended", message: "the session was ended" });
  }

  lost(why) {
    this.connected = false;
    this.closing = null;
    clearInterval(this.watch);
    this.why = why;
    this.dispatchEvent(new Event("state"));
    this.timer = setTimeout(() => this.open(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
  }

  fail(error) {
    for (const { reject } of this.pending.values()) reject(new CallError(error));
    this.pending.clear();
  }

  take(message) {
    switch (message.type) {
      case "welcome":
        return this.begin(message);
      case "answer": {
        const waiting = this.pending.get(message.request);
        this.pending.delete(message.request);
        return waiting?.resolve(message.answer);
      }
      case "error": {
        const waiting = this.pending.get(message.request);
        this.pending.delete(message.request);
        return waiting?.reject(new CallError(message.error));
      }
      case "event":
        return this.takeEvent(message);
      case "closing":
        this.closing = message.error.message;
        // A session that another connection took, or that the server refuses, is not asked for again.
        if (["taken-over", "unsupported-version", "key-revoked"].includes(message.error.code)) this.welcome = null;
    }
    // Types that this page does not know are of a later server.
  }

  begin(welcome) {
    const isFresh = !welcome.resumed;
    this.welcome = welcome;
    this.connected = true;
    this.watch = setInterval(() => this.listen(), SILENCE_MS / 6);
    this.pause = FIRST_PAUSE_MS;
    if (isFresh) {
      this.fail({ code: "ended", message: "the connection was lost for longer than the server keeps a session" });
      this.attached.clear();
    } else {
      for (const [request, { call }] of [...this.pending].sort(([a], [b]) => a - b)) this.say({ type: "request", request, call });
      for (const [inferlet, { last }] of this.attached) {
        this.call({ type: "attach", inferlet, after: last }).catch(() => this.attached.delete(inferlet));
      }
    }
    this.dispatchEvent(new Event("state"));
    if (isFresh) this.dispatchEvent(new Event("fresh"));
  }

  listen() {
    if (!this.pending.size || performance.now() - this.heard < SILENCE_MS) return;
    const { socket } = this;
    // Its own end may take long to come.
    this.socket = null;
    socket.close();
    this.lost("the server has said nothing for too long");
  }

  say(message) {
    if (this.connected) this.socket.send(JSON.stringify(message));
  }

  /** Asks for something. Without a connection it is asked for when there is one again. */
  call(call) {
    const request = (this.lastRequest += 1);
    return new Promise((resolve, reject) => {
      this.pending.set(request, { call, resolve, reject });
      this.say({ type: "request", request, call });
    });
  }

  /** Starts a program and takes its events. One that is detached goes on when this page is closed. */
  async launch(program, args, detached) {
    const { inferlet } = await this.call({ type: "launch", program, arguments: args, detached });
    if (detached) await this.attach(inferlet);
    else if (!this.attached.has(inferlet)) this.attached.set(inferlet, { last: 0, acknowledged: 0, waiting: [], keeps: false });
    this.acknowledge(inferlet);
    return inferlet;
  }

  /** Takes the events of an inferlet that somebody else started, and leaves the latest of them with the server. */
  async attach(inferlet) {
    if (this.attached.has(inferlet)) return;
    this.attached.set(inferlet, { last: 0, acknowledged: 0, waiting: [], keeps: true });
    try {
      await this.call({ type: "attach", inferlet });
    } catch (error) {
      this.attached.delete(inferlet);
      throw error;
    }
  }

  takeEvent({ inferlet, number, event }) {
    // Events come before the answer to the launch that they are of.
    if (!this.attached.has(inferlet)) {
      this.attached.set(inferlet, { last: 0, acknowledged: 0, waiting: [], keeps: false });
    }
    const log = this.attached.get(inferlet);
    if (number <= log.last) return;
    log.last = number;
    log.waiting.push({ number, bytes: (event.text ?? event.data ?? event.error?.message ?? "").length });
    this.dispatchEvent(new CustomEvent("inferlet", { detail: { id: inferlet, number, event } }));
    // All that came in one go are acknowledged in one.
    if (!log.asked) log.asked = setTimeout(() => this.acknowledge(inferlet), 50);
  }

  /** Acknowledges what is not left with the server. */
  acknowledge(inferlet) {
    const log = this.attached.get(inferlet);
    if (!log) return;
    clearTimeout(log.asked);
    log.asked = null;
    let bytes = log.waiting.reduce((sum, event) => sum + event.bytes, 0);
    const isOver = () =>
      log.waiting.length > (log.keeps ? LEFT_EVENTS : 0) || (bytes > LEFT_BYTES && log.waiting.length > 1);
    let number = 0;
    while (log.waiting.length && isOver()) {
      const taken = log.waiting.shift();
      bytes -= taken.bytes;
      number = taken.number;
    }
    if (number > log.acknowledged) {
      log.acknowledged = number;
      this.say({ type: "acknowledge", inferlet, number });
    }
  }
}
