// Pictures: lines over the last minute, the page pool, lanes. Colours are those of style.css, by class.

import { announce, el, number, svg, setText } from "./dom.js";

/** What every picture shows of time. */
export const SHOWN_MS = 60_000;
const HEIGHT = 100;
// Above the highest value, so that a line never touches the frame.
const HEADROOM = 1.1;

/** The next of 1, 2, 5, 10, 20, 50 … above a value. */
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

/**
 * Lines over the last minute. `series` are `{ name, class }`; `format` writes a value. `update` takes for each of them
 * points `[milliseconds before now, value]`, oldest first; a value of null is a gap.
 */
export class LineChart {
  constructor(parent, { title, series, format, least }) {
    Object.assign(this, { title, series, format, least });
    this.paths = series.map((one) => svg("path", { class: `line ${one.class}`, "vector-effect": "non-scaling-stroke" }));
    this.area = svg("path", { class: `area ${series[0].class}` });
    this.unseen = svg("rect", { class: "before", x: 0, y: 0, height: HEIGHT });
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" });
    const grid = [0.25, 0.5, 0.75].map((share) =>
      svg("line", { class: "grid", x1: 0, x2: SHOWN_MS, y1: share * HEIGHT, y2: share * HEIGHT, "vector-effect": "non-scaling-stroke" }));
    this.picture = svg("svg", { viewBox: `0 0 ${SHOWN_MS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: 0 }, this.unseen, ...grid, this.area, ...this.paths, this.cursor);
    this.top = el("span", { class: "top", "aria-hidden": "true" });
    this.when = el("span", { class: "when" });
    this.values = series.map(() => el("b"));
    const legend = el("p", { class: "legend", "aria-hidden": "true" },
      el("span", { class: "name" }, title), this.when,
      ...series.map((one, index) => el("span", { class: one.name ? `key ${one.class}` : "key alone" }, `${one.name} `, this.values[index])));
    parent.append(el("div", { class: "chart" }, legend, el("div", { class: "plot" }, this.picture, this.top)));
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.point(null));
    this.picture.addEventListener("keydown", (event) => this.step(event));
    this.picture.addEventListener("blur", () => this.point(null));
  }

  update(points) {
    this.points = points;
    const values = points.flat().map(([, value]) => value).filter((value) => value !== null);
    const highest = rounded(Math.max(this.least, ...values.map((value) => value * HEADROOM)));
    const oldest = points.flat().reduce((age, [point]) => Math.max(age, point), 0);
    this.unseen.setAttribute("width", Math.max(0, SHOWN_MS - oldest));
    points.forEach((line, index) => {
      let path = "";
      let area = "";
      let isDown = false;
      const end = (age) => (area += isDown ? `L${(SHOWN_MS - age).toFixed(0)} ${HEIGHT}Z` : "");
      let lastAge = 0;
      for (const [age, value] of line) {
        if (value !== null) {
          const [x, y] = [SHOWN_MS - age, HEIGHT * (1 - value / highest)];
          path += `${isDown ? "L" : "M"}${x.toFixed(0)} ${y.toFixed(2)}`;
          // A point alone is a short line.
          if (!isDown) path += "h1";
          area += `${isDown ? "L" : `M${x.toFixed(0)} ${HEIGHT}L`}${x.toFixed(0)} ${y.toFixed(2)}`;
          lastAge = age;
        } else {
          end(lastAge);
        }
        isDown = value !== null;
      }
      end(lastAge);
      if (index === 0) this.area.setAttribute("d", area || "M0 0");
      this.paths[index].setAttribute("d", path || "M0 0");
      this.paths[index].classList.toggle("none", !path);
    });
    setText(this.top, this.format(highest));
    this.show();
  }

  /** Shows the values where the pointer is. */
  point(event) {
    const box = this.picture.getBoundingClientRect();
    this.pointed = event && box.width ? SHOWN_MS * (1 - (event.clientX - box.left) / box.width) : null;
    this.show();
  }

  /** Moves by a second with the arrow keys, and says the values there. */
  step(event) {
    const step = { ArrowLeft: 1000, ArrowRight: -1000 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.pointed = Math.min(SHOWN_MS, Math.max(0, (this.pointed ?? 0) + step));
    this.show();
    announce(`${this.when.textContent}: ${this.said(this.values.map((value) => value.textContent))}`);
  }

  /** Values with their names. */
  said(values) {
    return this.series.map((one, index) => `${one.name} ${values[index]}`.trim()).join(", ");
  }

  show() {
    if (!this.points) return;
    const pointed = this.pointed ?? null;
    const latest = this.points.map((line) => line.at(-1)?.[1] ?? null);
    const nearest = (line) => line.reduce((best, point) =>
      Math.abs(point[0] - pointed) < Math.abs(best[0] - pointed) ? point : best, [Infinity, null]);
    const values = pointed === null ? latest : this.points.map((line) => nearest(line)[1]);
    values.forEach((value, index) => setText(this.values[index], this.format(value)));
    setText(this.when, pointed === null ? "" : `${Math.max(0, Math.round(pointed / 1000))} s ago`);
    this.cursor.classList.toggle("shown", pointed !== null);
    if (pointed !== null) {
      this.cursor.setAttribute("x1", SHOWN_MS - pointed);
      this.cursor.setAttribute("x2", SHOWN_MS - pointed);
    }
    this.picture.setAttribute("aria-label", `${this.title}, now: ${this.said(latest.map(this.format))}`);
  }
}

/** Kinds of pages in the order in which they are drawn; `spilled` are beside the pool. */
const KINDS = [
  ["private", "of one context"],
  ["shared", "of several contexts"],
  ["cached", "given up when others need them"],
  ["free", ""],
  ["spilled", "in host memory"],
];
const COLUMNS = 32;
const ROWS = 14;
const SPILLED_ROWS = 2;
const GAP = 6;

const squares = (rows) => Array.from({ length: COLUMNS * rows }, (_, index) => svg("rect", {
  x: (index % COLUMNS) * 10 + 0.75, y: Math.floor(index / COLUMNS) * 10 + 0.75, width: 8.5, height: 8.5, rx: 1.5,
}));

/** The pool of a model: squares, each for as many pages as it takes to draw all of them, and below those in host memory. */
export class PoolPicture {
  constructor(parent, model) {
    this.model = model;
    this.squares = squares(ROWS);
    this.spilled = squares(SPILLED_ROWS);
    this.picture = svg("svg", { class: "pool", role: "img", "aria-label": `Page pool of ${model}` }, ...this.squares, ...this.spilled);
    this.scale = el("span");
    this.values = new Map(KINDS.map(([kind]) => [kind, el("b")]));
    const legend = KINDS.map(([kind, about]) => el("div", { class: `key page-${kind}` },
      el("dt", { title: about || undefined }, kind), el("dd", {}, this.values.get(kind))));
    this.element = el("div", { class: "pool-of" },
      el("p", { class: "legend" }, el("span", { class: "name" }, model), this.scale), this.picture, el("dl", { class: "kinds" }, ...legend));
    parent.append(this.element);
  }

  /** `pages` are numbers by kind; the pool is all of them but those that are spilled. */
  update(pages) {
    const pool = pages.private + pages.shared + pages.cached + pages.free;
    const shown = Math.min(pool, this.squares.length);
    const each = shown ? pool / shown : 1;
    const height = 10 * Math.max(1, Math.ceil(shown / COLUMNS));
    const spilled = Math.min(Math.ceil(pages.spilled / each), this.spilled.length);
    const below = spilled ? GAP + 10 * Math.ceil(spilled / COLUMNS) : 0;
    this.picture.setAttribute("viewBox", `0 0 ${COLUMNS * 10} ${height + below}`);
    this.spilled.forEach((square, index) => {
      square.setAttribute("class", index < spilled ? "page-spilled" : "page-none");
      square.setAttribute("transform", `translate(0 ${height + GAP})`);
    });
    // A few pages of a kind are drawn as one square rather than not at all; what is free gives way.
    const held = ["private", "shared", "cached"].flatMap((kind) => Array(Math.ceil(pages[kind] / each)).fill(kind));
    this.squares.forEach((square, index) => {
      square.setAttribute("class", index >= shown ? "page-none" : `page-${held[index] ?? "free"}`);
    });
    setText(this.scale, each === 1 ? `${pool.toLocaleString("en")} pages` : `${pool.toLocaleString("en")} pages, ${number(each)} a square`);
    for (const [kind] of KINDS) setText(this.values.get(kind), pages[kind].toLocaleString("en"));
    const said = KINDS.map(([kind]) => `${pages[kind]} ${kind}`).join(", ");
    this.picture.setAttribute("aria-label", `Page pool of ${this.model}: ${said}`);
  }
}

const LANE = 22;
// Of the font of a label, generously.
const LETTER_PX = 7.5;

/**
 * Lanes over the last minute. `update` takes lanes `{ name, value, bars }` with bars `{ from, to, class, height, label,
 * title }`: milliseconds before now, oldest first, and the height as a share of the lane. What is before `since` was not seen.
 */
export class Timeline {
  constructor(parent) {
    this.body = el("div", { class: "lanes", role: "list" });
    const ticks = [60, 45, 30, 15, 0].map((age) => el("span", {}, age ? `${age} s ago` : "now"));
    parent.append(this.body, el("p", { class: "ticks", "aria-hidden": "true" }, el("span", { class: "lane-name" }), el("span", { class: "scale" }, ...ticks)));
    this.rows = [];
  }

  update(lanes, since) {
    while (this.rows.length > lanes.length) this.rows.pop().row.remove();
    lanes.forEach((lane, index) => {
      const row = (this.rows[index] ??= this.add());
      setText(row.name, lane.name);
      setText(row.value, lane.value ?? "");
      const width = row.picture.clientWidth;
      const before = bar({ from: SHOWN_MS, to: since, class: "before", title: "this page was not open yet" }, width);
      const bars = lane.bars.map((one, at) => bar({ ...one, next: lane.bars[at + 1]?.from ?? 0 }, width));
      row.picture.replaceChildren(...(since < SHOWN_MS ? [before] : []), ...bars);
      row.picture.setAttribute("aria-label", `${lane.name}: ${lane.said}`);
    });
  }

  add() {
    const name = el("span", { class: "name" });
    const value = el("span", { class: "quiet" });
    const picture = svg("svg", { class: "lane", role: "img", preserveAspectRatio: "none" });
    const row = el("div", { class: "lane-row", role: "listitem" }, el("span", { class: "lane-name" }, name, " ", value), picture);
    this.body.append(row);
    return { row, name, value, picture };
  }
}

/** A bar, in shares of the width; its label goes on behind it where there is room until the next. */
function bar({ from, to, class: name, height = 1, label, title, next }, width) {
  const at = (age) => 100 * (1 - Math.min(Math.max(age, 0), SHOWN_MS) / SHOWN_MS);
  const [left, right] = [at(from), at(to)];
  const tall = Math.max(1, (LANE - 4) * Math.min(height, 1));
  const shape = svg("rect", {
    class: `bar ${name}`, x: `${left}%`, width: `${Math.max(0.3, right - left)}%`, y: LANE - 2 - tall, height: tall, rx: label === undefined ? 0 : 3,
  }, svg("title", {}, title));
  if (label === undefined) return shape;
  const room = ([begin, end]) => Math.floor((((end - begin) / 100) * width - 8) / LETTER_PX);
  const [inside, behind] = [[left, right], [right, at(next)]];
  const place = room(inside) < label.length && room(behind) > room(inside) ? behind : inside;
  const letters = room(place);
  if (letters < 4) return shape;
  const text = label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
  return svg("g", {}, shape, svg("text", { x: `${place[0]}%`, dx: 5, y: LANE - 7, class: "bar-label" }, text));
}
