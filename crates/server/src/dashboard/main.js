// The page: which view is shown, the head, the key, and what is drawn when.

import { $, setText, span } from "./dom.js";
import { Chat } from "./chat.js";
import { Inferlets } from "./inferlets.js";
import { Overview } from "./overview.js";
import { ContextTree, PagesByInferlet } from "./pages.js";
import { Programs } from "./programs.js";
import { Server } from "./server.js";

const THEME = "pie-theme";
const VIEWS = ["overview", "programs", "chat"];

const server = new Server();
const inferlets = new Inferlets();
const overview = new Overview(server, inferlets);
const chat = new Chat(server);
const programs = new Programs(inferlets);
const pages = new PagesByInferlet(inferlets);
const contexts = new ContextTree();

function showView() {
  const wanted = location.hash.slice(1);
  // The link that skips the head leads to where one is.
  if (wanted === "view") return;
  const view = VIEWS.includes(wanted) ? wanted : VIEWS[0];
  for (const section of document.querySelectorAll("[data-section]")) section.hidden = section.dataset.section !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

/** What the head says. */
function showHead() {
  const { health, history, isIn, key, seesAll } = server;
  setText($("health"), health);
  $("health").className = `pill ${health === "ok" ? "good" : health === "connecting" ? "" : "bad"}`;
  const last = history.at(-1);
  const version = last?.names("pie_build_info", "version")[0];
  setText($("build"), last && seesAll && health !== "unreachable" ? `pie ${version}, up ${span(Date.now() / 1000 - last.started)}` : "");
  $("key-open").hidden = !key && isIn;
  const notices = {
    unreachable: "The server does not answer. What is shown is what it said last; this page tries again by itself.",
    starting: "The server is starting: its models are being loaded.",
    stopping: "The server is stopping.",
    failed: "The engine of a model is dead. Start the server anew; its log says why.",
  };
  const partly = isIn && seesAll === false
    ? "This key shows its own user. One made with `pie key add NAME --admin` shows the whole server." : "";
  setText($("notice"), notices[health] ?? partly);
  $("notice").hidden = !$("notice").textContent;
  const tokens = overview.now;
  document.title = isIn && tokens >= 1 ? `${Math.round(tokens)} tokens/s · pie` : "pie";
}

/** Asks for a key, once until it is given or put off. */
function askForKey(why) {
  if (server.key) setText($("key-error"), why);
  if ($("key-dialog").open || askForKey.isPutOff) return;
  $("key-dialog").showModal();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key-text").value.trim();
  // Keys are of these; anything else is no header.
  if (!/^[\x21-\x7e]+$/.test(key)) {
    setText($("key-error"), "This is no key: expected `sk-pie-` and letters and digits.");
    return;
  }
  setText($("key-error"), "");
  server.setKey(key);
});
$("key-forget").addEventListener("click", () => {
  $("key-text").value = "";
  setText($("key-error"), "");
  server.setKey("");
});
$("key-close").addEventListener("click", () => $("key-dialog").close());
$("key-dialog").addEventListener("close", () => {
  askForKey.isPutOff = true;
  showHead();
});
$("key-open").addEventListener("click", () => $("key-dialog").showModal());

server.addEventListener("key", ({ detail }) => {
  inferlets.disconnect();
  askForKey(detail);
  showHead();
});
server.addEventListener("entered", () => {
  $("key-dialog").close();
  askForKey.isPutOff = false;
  inferlets.connect(server.key);
  chat.loadModels();
});
server.addEventListener("health", () => {
  showHead();
  if (server.health === "ok" && server.isIn) chat.loadModels();
});

let asksPages = false;
/** Asks for the pages of inferlets, once at a time and only while they are looked at. */
async function showPages() {
  const isShown = (view) => !document.hidden && !document.querySelector(`[data-section=${view}]`).hidden;
  const chosen = isShown("programs") && inferlets.all.get(programs.chosen)?.state === "running" ? programs.chosen : null;
  if (!chosen) contexts.clear();
  if (asksPages || !inferlets.session?.connected || !(chosen || isShown("overview"))) return;
  asksPages = true;
  try {
    const models = await inferlets.pages(chosen ?? undefined);
    pages.update(models);
    if (chosen && chosen === programs.chosen) contexts.update(models);
  } catch {
    // Without a connection the head says so, and what was drawn stays.
  } finally {
    asksPages = false;
  }
}

let isDrawn = false;
/** Draws at the next frame, however much is new until then. */
function draw() {
  if (isDrawn) return;
  isDrawn = true;
  requestAnimationFrame(() => {
    isDrawn = false;
    overview.update();
    showHead();
  });
}
server.addEventListener("sample", draw);
inferlets.addEventListener("list", draw);
inferlets.addEventListener("listed", showPages);

try {
  $("theme").value = localStorage.getItem(THEME) ?? "";
} catch {
  // A browser that keeps nothing shows the colours of the system.
}
showTheme($("theme").value);
$("theme").addEventListener("change", ({ target }) => {
  showTheme(target.value);
  try {
    localStorage.setItem(THEME, target.value);
  } catch {
    // As above.
  }
});
window.addEventListener("hashchange", showView);
showView();
overview.update();
server.poll();
