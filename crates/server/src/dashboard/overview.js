// What the server does: figures of now, lines and lanes of the last minute, the page pool, the models.

import { $, bytes, el, NONE, number, percent, seconds, setText, span } from "./dom.js";
import { LineChart, PoolPicture, SHOWN_MS, Timeline } from "./charts.js";
import { before, gained, mean, quantile, rate } from "./metrics.js";

// Rates of tiles and tables are of so long: shorter ones flicker.
const RATE_MS = 5000;
// Quantiles need some values; a point of a line looks so far back.
const QUANTILE_MS = 10_000;
const INFERLET_LANES = 8;
// The server's own: this page asks for them each second.
const OWN_ROUTES = ["/health", "/stats", "/metrics", "/dashboard", "/debug/trace", "/v1/session"];

const GENERATED = "pie_generated_tokens_total";
const PROMPT = "pie_prompt_tokens_total";
const FIRST = "pie_time_to_first_token_seconds";
const INTER_TOKEN = "pie_inter_token_latency_seconds";
const STEP = "pie_engine_step_seconds";

/** Requests of others that are over. */
function requests(sample) {
  const samples = sample.samples("pie_http_requests_total").filter(({ labels }) => !OWN_ROUTES.some((own) => labels.route.startsWith(own)));
  const sum = (some) => some.reduce((total, { value }) => total + value, 0);
  return { all: sum(samples), failed: sum(samples.filter(({ labels }) => labels.status >= "500")) };
}

/** Points of the last minute, and one before it, to which its first line leads. */
function shown(points) {
  const first = points.findIndex(([age]) => age <= SHOWN_MS);
  return points.slice(Math.max(0, first - 1));
}

export class Overview {
  constructor(server, inferlets) {
    Object.assign(this, { server, inferlets });
    this.opened = performance.now();
    this.tiles = new Map();
    this.pools = new Map();
    const lines = (title, names) => ({ title, series: names, format: seconds, least: 0.001 });
    const quantiles = [{ name: "p50", class: "first" }, { name: "p95", class: "second" }];
    const tokens = (id, title) => new LineChart($(id), { title, series: [{ name: "", class: "first" }], format: number, least: 10 });
    this.generated = tokens("generated", "Generated");
    this.prompts = tokens("prompts", "Prompts");
    this.computed = tokens("computed", "Computed for this key");
    this.firstToken = new LineChart($("first-token"), lines("Time to first token", quantiles));
    this.interToken = new LineChart($("inter-token"), lines("Inter-token latency", quantiles));
    this.timeline = new Timeline($("timeline"));
  }

  /** Draws what is known. */
  update() {
    const { history, seesAll } = this.server;
    for (const part of document.querySelectorAll(".whole-server")) part.hidden = seesAll !== true;
    for (const part of document.querySelectorAll(".one-user")) part.hidden = seesAll !== false;
    if (seesAll && history.length) this.updateAll(history);
    else this.updateOwn();
    this.timeline.update([...(seesAll && history.length ? this.engineLanes(history) : []), ...this.inferletLanes()], performance.now() - this.opened);
  }

  tile(name, value, unit, more = "") {
    let parts = this.tiles.get(name);
    if (!parts) {
      parts = [el("span", { class: "value" }), el("span", { class: "unit" }), el("span", { class: "more" })];
      const [shown, units, rest] = parts;
      this.tiles.set(name, parts);
      $("tiles").append(el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, el("span", { class: "figure" }, shown, " ", units), rest)));
    }
    [value, value === NONE ? "" : unit, more].forEach((text, index) => setText(parts[index], text));
  }

  /** A tile of a time, whose unit is a part of it. */
  timeTile(name, value, more) {
    const [figure, unit = ""] = seconds(value).split(" ");
    this.tile(name, figure, unit, more);
  }

  clearTiles() {
    $("tiles").replaceChildren();
    this.tiles.clear();
  }

  updateAll(history) {
    if (this.shows !== "all") this.clearTiles();
    this.shows = "all";
    const last = history.at(-1);
    const then = before(history, RATE_MS);
    const now = { generated: rate(then, last, GENERATED), prompt: rate(then, last, PROMPT) };
    this.tile("Generated", number(now.generated), "tokens/s", `${number(last.value(GENERATED))} since the start`);
    this.tile("Prompts", number(now.prompt), "tokens/s", `${number(last.value(PROMPT))} since the start`);
    for (const [name, metric] of [["Time to first token", FIRST], ["Inter-token latency", INTER_TOKEN]]) {
      const recent = gained(before(history, SHOWN_MS), last, metric);
      const late = quantile(recent, 0.95);
      this.timeTile(name, quantile(recent, 0.5), late === null ? "none in the last minute" : `p95 ${seconds(late)}, last minute`);
    }
    const running = last.value("pie_inferlets_running") ?? 0;
    this.tile("Inferlets", number(running), "running", `${number(last.value("pie_inferlets_waiting") ?? 0)} wait for their turn`);
    // The request for these figures is one of them.
    const asked = Math.max(0, (last.value("pie_http_requests_running") ?? 0) - 1);
    this.tile("Requests", number(asked), "running", `${number(last.value("pie_http_requests_waiting") ?? 0)} wait for a place`);
    this.now = now.generated;

    const lines = (metric) => this.line(history, (index) => (index ? rate(history[index - 1], history[index], metric) : null));
    this.generated.update([lines(GENERATED)]);
    this.prompts.update([lines(PROMPT)]);
    for (const [chart, metric] of [[this.firstToken, FIRST], [this.interToken, INTER_TOKEN]]) {
      const recent = history.map((_, index) => gained(before(history, QUANTILE_MS, index), history[index], metric));
      chart.update([0.5, 0.95].map((share) => this.line(history, (index) => quantile(recent[index], share))));
    }
    this.updateModels(history, last.names("pie_engine_up", "model"));
  }

  /** Points of the samples of the last minute. */
  line(history, value) {
    const now = history.at(-1).at;
    const points = history.map((sample, index) => [now - sample.at, value(index)]);
    return shown(points);
  }

  /** A key that does not show the whole server shows what its user takes. */
  updateOwn() {
    const { usage, usages } = this.inferlets;
    if (!usage) return;
    if (this.shows !== "own") this.clearTiles();
    this.shows = "own";
    const perSecond = (from, to) => (to.usage.tokens - from.usage.tokens) / ((to.at - from.at) / 1000);
    const last = usages.at(-1);
    const then = usages.findLast((one) => one.at <= last.at - RATE_MS) ?? usages[0];
    this.now = then === last ? null : perSecond(then, last);
    this.tile("Tokens computed", number(this.now ?? NaN), "tokens/s", `${number(usage.tokens)} since the start, of this key`);
    this.tile("Inferlets", number(usage.inferlets.used), "running", `of ${number(usage.inferlets.limit)}`);
    this.tile("Memory of programs", bytes(usage.memory_bytes.used), "", `of ${bytes(usage.memory_bytes.limit)}`);
    this.tile("Held for programs", bytes(usage.host_memory_bytes.used), "", `of ${bytes(usage.host_memory_bytes.limit)}`);
    const points = usages.map((one, index) => [last.at - one.at, index ? perSecond(usages[index - 1], one) : null]);
    this.computed.update([shown(points)]);
  }

  updateModels(history, models) {
    for (const [model, pool] of this.pools) {
      if (!models.includes(model)) {
        pool.element.remove();
        this.pools.delete(model);
      }
    }
    const last = history.at(-1);
    const then = before(history, RATE_MS);
    const minute = before(history, SHOWN_MS);
    const rows = models.map((model) => {
      const labels = { model };
      const pages = (state) => last.value("pie_kv_pages", { model, state });
      const isUp = last.value("pie_engine_up", labels) === 1;
      if (pages("free") !== null) {
        if (!this.pools.has(model)) this.pools.set(model, new PoolPicture($("pool"), model));
        const shared = last.value("pie_kv_pages_shared", labels);
        this.pools.get(model).update({
          private: Math.max(0, pages("used") - shared), shared, cached: pages("cached"), free: pages("free"),
          spilled: last.value("pie_kv_pages_spilled", labels),
        });
      }
      const between = quantile(gained(minute, last, INTER_TOKEN, labels), 0.5);
      const asked = rate(minute, last, "pie_prefix_asked_tokens_total", labels);
      const found = rate(minute, last, "pie_prefix_found_tokens_total", labels);
      return [
        [model, "name"],
        [isUp ? "up" : "dead", isUp ? "good" : "bad"],
        [number(rate(then, last, PROMPT, labels))],
        [number(rate(then, last, GENERATED, labels))],
        [number(between ? 1 / between : NaN)],
        [number(mean(gained(minute, last, "pie_batch_rows", labels)))],
        [seconds(quantile(gained(minute, last, STEP, labels), 0.5))],
        [number(last.value("pie_passes_running", labels))],
        [number(last.value("pie_passes_waiting", labels))],
        [number(last.value("pie_contexts", labels))],
        [asked ? percent(found / asked) : NONE],
      ];
    });
    const cell = ([text, name], index) => index === 0
      ? el("th", { scope: "row" }, text)
      : el("td", { class: name ?? "number" }, text);
    $("models").tBodies[0].replaceChildren(...rows.map((row) => el("tr", {}, ...row.map(cell))));
  }

  /** How busy each engine was, and the requests that ended. */
  engineLanes(history) {
    const now = history.at(-1).at;
    const steps = history.slice(1).map((sample, index) => [history[index], sample]).filter(([, to]) => now - to.at < SHOWN_MS);
    const lane = (name, value, bars) => ({ name, value, said: value, bars: bars.filter(({ height }) => height > 0) });
    const engines = history.at(-1).names("pie_engine_up", "model").map((model) => {
      const bars = steps.map(([from, to]) => {
        const share = Math.min(1, (gained(from, to, STEP, { model })?.sum ?? 0) / ((to.at - from.at) / 1000));
        return { from: now - from.at, to: now - to.at, class: "engine", height: share, title: `${percent(share)} busy` };
      });
      return lane(model, `${percent(bars.at(-1)?.height ?? 0)} busy`, bars);
    });
    const ended = steps.map(([from, to]) => {
      const [a, b] = [requests(from), requests(to)];
      return { from: now - from.at, to: now - to.at, all: b.all - a.all, failed: b.failed - a.failed };
    });
    const most = Math.max(1, ...ended.map(({ all }) => all));
    const bars = ended.map((one) => ({
      ...one, class: one.failed ? "failed" : "request", height: one.all / most,
      title: one.failed ? `${one.all} requests ended, ${one.failed} failed` : `${one.all} requests ended`,
    }));
    const sum = ended.reduce((total, { all }) => total + all, 0);
    return [...engines, lane("Requests", `${number(sum)} ended`, bars)];
  }

  /** Inferlets as bars, those that do not overlap in one lane. */
  inferletLanes() {
    const now = performance.now();
    const age = (inferlet) => (inferlet.ended === null ? 0 : now - inferlet.ended);
    const recent = [...this.inferlets.all.values()].filter((inferlet) => !inferlet.isOld && age(inferlet) < SHOWN_MS);
    recent.sort((a, b) => a.started - b.started);
    const lanes = [];
    let left = 0;
    for (const inferlet of recent) {
      const bar = {
        from: now - inferlet.started, to: age(inferlet), class: inferlet.outcome ?? inferlet.state, label: inferlet.program,
        title: `${inferlet.program}, ${inferlet.outcome ?? inferlet.state}, ${span((now - age(inferlet) - inferlet.started) / 1000)}`,
      };
      const free = lanes.find((bars) => bars.at(-1).to >= bar.from);
      if (free) free.push(bar);
      else if (lanes.length < INFERLET_LANES) lanes.push([bar]);
      else left += 1;
    }
    const said = (bars) => bars.map(({ title }) => title).join("; ");
    if (!lanes.length) return [{ name: "Inferlets", value: "none", said: "none", bars: [] }];
    return lanes.map((bars, index) => ({
      name: index ? "" : "Inferlets", value: index ? "" : `${recent.length}${left ? `, ${left} not shown` : ""}`, said: said(bars), bars,
    }));
  }
}
