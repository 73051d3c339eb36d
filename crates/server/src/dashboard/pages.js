// What inferlets hold of the page pools: a bar for each inferlet, and the contexts of one of them as a tree.

import { $, el, setText, svg } from "./dom.js";

// A pool of more inferlets is shortened: those that hold least are left out.
const SHOWN_INFERLETS = 12;
// Contexts of a tree that are shown.
const SHOWN_CONTEXTS = 200;
const ID_LETTERS = 8;
const KINDS = ["private", "shared", "spilled"];
// A bar is at least so wide, in hundredths of the picture.
const LEAST = 0.6;

const held = (pages) => KINDS.reduce((sum, kind) => sum + pages[kind], 0);
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Parts of a bar, one behind the other: `[class, share]` with shares of 1. */
function barOf(parts, label) {
  let at = 0;
  const shapes = parts.filter(([, share]) => share > 0).map(([name, share]) => {
    const width = Math.max(LEAST, share * 100);
    const shape = svg("rect", { class: name, x: `${at}%`, y: 0, width: `${width}%`, height: 12 });
    at += width;
    return shape;
  });
  return svg("svg", { class: "held", role: "img", "aria-label": label }, ...shapes);
}

/** The inferlets of this key's user by the pages that they hold, of each model. */
export class PagesByInferlet {
  constructor(inferlets) {
    this.inferlets = inferlets;
  }

  update(models) {
    const shown = models.filter((model) => model.inferlets.length);
    $("held-panel").hidden = !models.length;
    $("held-none").hidden = shown.length > 0;
    $("held").replaceChildren(...shown.map((model) => this.model(model)));
  }

  model(model) {
    const sorted = [...model.inferlets].sort((a, b) => held(b) - held(a));
    const most = Math.max(1, held(sorted[0]));
    const rows = sorted.slice(0, SHOWN_INFERLETS).map((pages) => {
      const name = this.inferlets.all.get(pages.inferlet)?.program ?? "";
      const said = KINDS.filter((kind) => pages[kind]).map((kind) => `${pages[kind].toLocaleString("en")} ${kind}`).join(", ") || "none";
      const label = `${name} ${pages.inferlet.slice(0, ID_LETTERS)}: ${said}`;
      const picture = barOf(KINDS.map((kind) => [`page-${kind}`, pages[kind] / most]), label);
      const share = `${plural(held(pages), "page")}, ${plural(pages.contexts, "context")}`;
      return el("li", {}, el("span", { class: "name" }, name, " ", el("code", {}, pages.inferlet.slice(0, ID_LETTERS))), picture, el("span", { class: "quiet" }, share));
    });
    const more = sorted.length - rows.length;
    const left = more > 0 ? [el("li", { class: "quiet" }, `and ${plural(more, "inferlet")} that hold fewer`)] : [];
    const cut = model.left_out ? [el("p", { class: "quiet" }, `${plural(model.left_out, "context")} more are not counted.`)] : [];
    return el("div", { class: "held-of" }, el("h4", {}, model.model, el("small", {}, `${model.pool.toLocaleString("en")} pages`)), el("ul", {}, ...rows, ...left), ...cut);
  }
}

/** The contexts of one inferlet: each below that which it was forked from, with the pages that it shares with it. */
export class ContextTree {
  /** Draws it anew where something is different, so that what has the focus keeps it otherwise. */
  update(models) {
    const shown = models.filter((model) => model.contexts?.length);
    const state = JSON.stringify(shown.map(({ model, contexts, left_out }) => [model, contexts, left_out]));
    if (state === this.state) return;
    this.state = state;
    $("contexts").hidden = !shown.length;
    $("contexts-of").replaceChildren(...shown.map((model) => this.tree(model, shown.length > 1)));
  }

  tree({ model, contexts, left_out = 0 }, isNamed) {
    const listed = contexts.slice(0, SHOWN_CONTEXTS);
    const below = new Map();
    for (const context of listed) {
      const parent = listed.some((one) => one.context === context.parent) ? context.parent : null;
      below.set(parent, [...(below.get(parent) ?? []), context]);
    }
    const most = Math.max(1, ...listed.map(({ pages }) => pages));
    const list = (parent) => el("ul", {}, ...(below.get(parent) ?? []).map((context) => {
      const inner = below.has(context.context) ? [list(context.context)] : [];
      return el("li", {}, this.row(context, most), ...inner);
    }));
    const more = contexts.length - listed.length + left_out;
    const cut = more > 0 ? [el("p", { class: "quiet" }, `${plural(more, "context")} more are not shown.`)] : [];
    return el("div", {}, ...(isNamed ? [el("h4", {}, model)] : []), list(null), ...cut);
  }

  row({ context, length, pages, shared, spilled }, most) {
    const own = pages - shared;
    const text = `${plural(length, "token")}, ${plural(pages, "page")}`;
    const notes = [shared ? `${shared} of them of its parent` : "", spilled ? `${spilled} in host memory` : ""].filter(Boolean).join(", ");
    const picture = barOf([["page-shared", shared / most], ["page-private", own / most]], `Context ${context}: ${text}${notes ? `, ${notes}` : ""}`);
    return el("div", { class: "context" }, el("span", {}, `Context ${context}`), picture, el("span", { class: "quiet" }, notes ? `${text}, ${notes}` : text));
  }

  clear() {
    this.update([]);
  }
}
