// A chat over /v1/chat/completions, as any application would have it.

import { $, announce, el, number, seconds, setText } from "./dom.js";

/** The objects of a stream of server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const lines = buffer.split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

export class Chat {
  messages = [];
  running = null;

  constructor(server) {
    this.server = server;
    this.empty = $("chat-log").firstElementChild;
    $("chat-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    $("chat-text").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $("chat-form").requestSubmit();
    });
    $("chat-stop").addEventListener("click", () => this.running?.abort());
    $("chat-new").addEventListener("click", () => this.clear());
  }

  /** Asks which models there are. */
  async loadModels() {
    try {
      const names = await this.server.models();
      const chosen = $("chat-model").value;
      $("chat-model").replaceChildren(...names.map((name) => el("option", {}, name)));
      if (names.includes(chosen)) $("chat-model").value = chosen;
    } catch (error) {
      setText($("chat-error"), `The models are not known: ${error.message}`);
    }
  }

  clear() {
    this.running?.abort();
    this.messages = [];
    $("chat-log").replaceChildren(this.empty);
    setText($("chat-error"), "");
    $("chat-text").focus();
  }

  add(role, text) {
    this.empty.remove();
    const [body, facts] = [el("p", { class: "body" }, text), el("p", { class: "facts" })];
    $("chat-log").append(el("article", { class: `message ${role}`, "aria-label": role === "user" ? "You" : "Model" }, body, facts));
    this.scroll(true);
    return { body, facts };
  }

  scroll(always) {
    const log = $("chat-log");
    if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight;
  }

  async ask() {
    const text = $("chat-text").value.trim();
    if (!text || this.running) return;
    $("chat-text").value = "";
    setText($("chat-error"), "");
    const messages = this.messages;
    const question = { role: "user", content: text };
    this.add("user", text);
    const shown = this.add("assistant", "");
    const running = (this.running = new AbortController());
    this.updateButtons();
    const answer = { role: "assistant", content: "" };
    try {
      const facts = await this.stream([...messages, question], shown, answer, running.signal);
      setText(shown.facts, facts);
      announce(`The model answered: ${answer.content}`);
    } catch (error) {
      setText(shown.facts, running.signal.aborted ? "stopped" : "failed");
      // A chat that was begun anew has nothing to do with it.
      if (!running.signal.aborted && messages === this.messages) setText($("chat-error"), error.message);
    } finally {
      // A question without an answer is asked again by its user.
      if (answer.content) messages.push(question, answer);
      else if (messages === this.messages && !running.signal.aborted) $("chat-text").value ||= text;
      if (this.running === running) this.running = null;
      this.updateButtons();
    }
  }

  /** Writes the answer as it comes; returns what is said below it. */
  async stream(messages, shown, answer, signal) {
    const system = $("chat-system").value.trim();
    const body = {
      model: $("chat-model").value || undefined,
      messages: system ? [{ role: "system", content: system }, ...messages] : messages,
      temperature: $("chat-temperature").valueAsNumber,
      max_tokens: $("chat-tokens").valueAsNumber,
      stream: true,
      stream_options: { include_usage: true },
    };
    const begin = performance.now();
    let [first, last, usage, reason] = [null, null, null, null];
    const response = await this.server.request("/v1/chat/completions", {
      method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal,
    });
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices[0];
      const text = choice?.delta?.content ?? "";
      if (text) {
        last = performance.now();
        first ??= last;
        answer.content += text;
        setText(shown.body, answer.content);
        this.scroll(false);
      }
      reason = choice?.finish_reason ?? reason;
      usage = chunk.usage ?? usage;
    }
    if (reason === null) throw new Error("the answer ended before its end: the server closed the connection");
    const tokens = usage?.completion_tokens;
    const speed = tokens > 1 && last > first ? `${number(((tokens - 1) * 1000) / (last - first))} tokens/s` : null;
    const ended = reason === "length" ? "cut off at the most tokens" : null;
    return [
      tokens && `${tokens} tokens`, speed, first && `first after ${seconds((first - begin) / 1000)}`,
      usage?.prompt_tokens_details?.cached_tokens ? `${usage.prompt_tokens_details.cached_tokens} of the prompt cached` : null, ended,
    ].filter(Boolean).join(" · ");
  }

  updateButtons() {
    const isRunning = this.running !== null;
    const hadFocus = document.activeElement === $("chat-stop") || document.activeElement === $("chat-send");
    $("chat-send").hidden = isRunning;
    $("chat-stop").hidden = !isRunning;
    if (hadFocus) (isRunning ? $("chat-stop") : $("chat-text")).focus();
  }
}
