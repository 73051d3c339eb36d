// The view of programs: the form that launches one, the list of inferlets, and what the chosen one writes.

import { $, announce, el, NONE, seconds, setText, span } from "./dom.js";
import { parseArguments } from "./arguments.js";
import { Parameters } from "./parameters.js";

// A list of more is shortened: its end is what began first.
const SHOWN_ROWS = 200;
const ID_LETTERS = 8;

export class Programs {
  constructor(inferlets) {
    this.inferlets = inferlets;
    this.chosen = null;
    this.rows = new Map();
    this.written = { id: null, parts: 0, last: 0 };
    inferlets.addEventListener("list", () => this.update());
    inferlets.addEventListener("output", ({ detail }) => detail === this.chosen && this.updateChosen());
    $("launch").addEventListener("submit", (event) => {
      event.preventDefault();
      this.launch($("launch-detached").checked);
    });
    $("launch-program").addEventListener("change", () => this.describe());
    $("launch-arguments").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      $("launch").requestSubmit();
    });
    $("send").addEventListener("submit", (event) => {
      event.preventDefault();
      this.attempt(async (inferlet) => {
        const text = $("send-text").value;
        $("send-text").value = "";
        inferlet.write("sent", `> ${text}\n`);
        this.updateChosen();
        await this.inferlets.send(inferlet, text);
      });
    });
    $("send-end").addEventListener("click", () => this.attempt((inferlet) => this.inferlets.endInput(inferlet)));
    $("kill").addEventListener("click", () => this.attempt((inferlet) => this.inferlets.kill(inferlet)));
    $("copy").addEventListener("click", () => this.attempt(async (inferlet) => {
      await navigator.clipboard.writeText(inferlet.output.map(({ text }) => text).join(""));
      announce("The output is copied");
    }));
  }

  /** Does something with the chosen inferlet; what goes wrong is said below it. */
  async attempt(action) {
    const inferlet = this.inferlets.all.get(this.chosen);
    if (!inferlet) return;
    setText($("inferlet-error"), "");
    try {
      await action(inferlet);
    } catch (error) {
      setText($("inferlet-error"), error.message);
    }
  }

  /** Shows the form of the program that is chosen, once the server has said what it takes. Until then there is none. */
  describe() {
    const program = $("launch-program").value;
    if (!program || program === this.described || !this.canLaunch()) return;
    this.described = program;
    this.showForm(null);
    $("launch-line").hidden = true;
    this.describing = this.inferlets.describe(program).then(
      (described) => {
        if (this.described !== program) return;
        this.showForm(described.manifest ?? null);
        setText($("launch-error"), described.runs ? "" : "This program answers HTTP requests, and cannot be launched.");
      },
      (error) => {
        if (this.described !== program) return;
        this.showForm(null);
        // Of a lost connection: the next session asks again.
        if (error.code === "ended") this.described = null;
        else setText($("launch-error"), error.message);
      },
    );
  }

  showForm(manifest) {
    this.parameters = manifest?.parameters ? new Parameters(manifest) : null;
    const fields = $("launch-parameters");
    fields.replaceChildren(fields.firstElementChild, ...(this.parameters ? [this.parameters.element] : []));
    fields.hidden = !manifest?.parameters?.length;
    $("launch-line").hidden = Boolean(this.parameters);
    $("launch-about").hidden = !manifest?.description;
    setText($("launch-about"), manifest ? `${manifest.description} (${manifest.version})` : "");
  }

  async launch(detached) {
    setText($("launch-error"), "");
    const button = $("launch").querySelector("[type=submit]");
    button.disabled = true;
    try {
      await this.describing;
      const given = this.parameters ? await this.parameters.arguments() : parseArguments($("launch-arguments").value);
      this.choose(await this.inferlets.launch($("launch-program").value, given, detached));
    } catch (error) {
      setText($("launch-error"), error.message);
    } finally {
      button.disabled = !this.canLaunch();
    }
  }

  canLaunch() {
    return Boolean(this.inferlets.session?.connected && this.inferlets.programs.length);
  }

  choose(id) {
    this.chosen = this.inferlets.kept = id;
    setText($("inferlet-error"), "");
    this.update();
    this.attempt((inferlet) => this.inferlets.watch(inferlet));
  }

  update() {
    this.updateForm();
    this.updateList();
    this.updateChosen();
  }

  updateForm() {
    const select = $("launch-program");
    const names = this.inferlets.programs.map(({ name, hash }) => name ?? hash);
    const known = [...select.options].map((option) => option.value);
    if (known.join("\n") !== names.join("\n")) {
      const chosen = select.value || "text-completion";
      const shown = ({ name, hash }) => name ?? `${hash.slice(0, 12)}… (no name)`;
      select.replaceChildren(...this.inferlets.programs.map((program, index) => el("option", { value: names[index] }, shown(program))));
      if (names.includes(chosen)) select.value = chosen;
    }
    $("launch").querySelector("[type=submit]").disabled = !this.canLaunch();
    if (this.canLaunch()) this.describe();
    const { why } = this.inferlets;
    if (why) setText($("launch-error"), `No session with the server: ${why}. Trying again.`);
    else if ($("launch-error").textContent.startsWith("No session")) setText($("launch-error"), "");
  }

  updateList() {
    // Of one that answered a request nothing is left to see when it has ended.
    const isShown = (inferlet) => inferlet.attachable || inferlet.ended === null || inferlet.id === this.chosen;
    const all = [...this.inferlets.all.values()].filter(isShown);
    const running = all.filter((inferlet) => inferlet.state === "running").length;
    // Those that run first, the youngest at the top.
    all.sort((a, b) => (a.ended !== null) - (b.ended !== null) || b.started - a.started);
    const shown = all.slice(0, SHOWN_ROWS);
    const more = all.length > shown.length ? `, the first ${SHOWN_ROWS} of ${all.length} shown` : "";
    setText($("inferlets-count"), all.length ? `${running} running, ${all.length - running} ended${more}` : "");
    $("inferlets").hidden = !all.length;
    $("inferlets-none").hidden = all.length > 0;
    const body = $("inferlets").tBodies[0];
    const ids = new Set(shown.map((inferlet) => inferlet.id));
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.element.remove();
        this.rows.delete(id);
      }
    }
    shown.forEach((inferlet, index) => {
      if (!this.rows.has(inferlet.id)) this.rows.set(inferlet.id, this.row(inferlet.id));
      const row = this.rows.get(inferlet.id);
      if (body.rows[index] !== row.element) body.insertBefore(row.element, body.rows[index] ?? null);
      setText(row.name, inferlet.program);
      setText(row.id, inferlet.id.slice(0, ID_LETTERS));
      setText(row.state, inferlet.shown);
      row.state.className = `pill ${inferlet.shown}`;
      setText(row.age, inferlet.isOld ? NONE : span(((inferlet.ended ?? performance.now()) - inferlet.started) / 1000));
      setText(row.cpu, seconds(inferlet.cpu));
      row.button.setAttribute("aria-pressed", inferlet.id === this.chosen);
      row.element.classList.toggle("chosen", inferlet.id === this.chosen);
    });
  }

  row(id) {
    const [name, short, state] = [el("span"), el("code"), el("span")];
    const [age, cpu] = [el("td", { class: "number" }), el("td", { class: "number" })];
    const button = el("button", { type: "button", class: "choose" }, name, " ", short);
    button.addEventListener("click", () => {
      this.choose(id);
      $("inferlet-title").focus();
    });
    const element = el("tr", {}, el("th", { scope: "row" }, button), el("td", {}, state), age, cpu);
    return { element, button, name, id: short, state, age, cpu };
  }

  updateChosen() {
    const inferlet = this.inferlets.all.get(this.chosen);
    const isRunning = inferlet?.state === "running";
    $("inferlet-output").hidden = !inferlet || !inferlet.attachable;
    $("kill").hidden = !isRunning;
    $("send").hidden = !isRunning || !inferlet.attachable;
    $("copy").hidden = !inferlet?.output.length || !navigator.clipboard;
    if (!inferlet) {
      setText($("inferlet-title"), "Output");
      setText($("inferlet-facts"), "Choose an inferlet to see what it writes.");
      return;
    }
    setText($("inferlet-title"), inferlet.program);
    const given = inferlet.arguments.length ? `, with ${inferlet.arguments.map((one) => (/^[\w.=/-]+$/.test(one) ? one : JSON.stringify(one))).join(" ")}` : "";
    const silent = inferlet.attachable ? "" : ". It answers a request or another program, which takes what it writes";
    const clients = inferlet.attachable && isRunning && inferlet.clients !== null ? `, ${inferlet.clients} watching` : "";
    setText($("inferlet-facts"), `${inferlet.id}: ${inferlet.shown}${clients}${given}${silent}.`);
    this.writeOutput(inferlet);
  }

  /** Adds what is new to the text on the page, and follows its end unless somebody has scrolled away from it. */
  writeOutput(inferlet) {
    const box = $("inferlet-output");
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const { written } = this;
    if (written.id !== inferlet.id || written.cut !== inferlet.output[0]) {
      box.replaceChildren();
      Object.assign(written, { id: inferlet.id, cut: inferlet.output[0], parts: 0 });
      if (inferlet.isCut) box.append(el("span", { class: "note" }, "[what came before is not kept]\n"));
      written.before = box.childNodes.length;
    }
    // The last part that is there may have grown.
    const from = Math.max(0, written.parts - 1);
    inferlet.output.slice(from).forEach(({ kind, text }, index) => {
      const known = box.childNodes[written.before + from + index];
      if (known) setText(known, text);
      else box.append(el("span", { class: kind }, text));
    });
    written.parts = inferlet.output.length;
    const isWaiting = inferlet.state === "running" && !inferlet.output.length;
    box.classList.toggle("waiting", isWaiting);
    if (follows) box.scrollTop = box.scrollHeight;
  }
}
