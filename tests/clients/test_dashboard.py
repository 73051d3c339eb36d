"""The dashboard, in a browser without a network: its views, the keys, and what axe says of them."""

import contextlib
import re
import shutil

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from conftest import MODEL, PATIENCE_S, Pie, model_file
from playwright.sync_api import expect, sync_playwright

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# It passes over stop tokens: nothing but the number of tokens ends it.
ENDLESS = ("attention-sink", {"max-tokens": "1000000"})

expect.set_options(timeout=PATIENCE_S * 1000)


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is there")
    # Names of other hosts lead nowhere.
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *alone])


@contextlib.contextmanager
def opened(browser, url, **settings):
    """The page of a server; no script of it may fail, and it may load nothing that its policy forbids."""
    wrong = []
    context = browser.new_context(**{"viewport": WIDE, **settings})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    page.goto(url)
    yield page
    assert not wrong, wrong
    context.close()


@pytest.fixture
def page(browser, url):
    with opened(browser, url) as page:
        yield page


def show(page, view):
    page.get_by_role("navigation").get_by_role("link", name=view).click()


def launch(page, program, parameters):
    """Launches a program by its form; its row in the list."""
    show(page, "Programs")
    page.get_by_label("Program", exact=True).select_option(program)
    for name, value in parameters.items():
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Launch").click()
    return page.locator("#inferlets tr.chosen", has_text=program)


def output(page):
    return page.get_by_label("Output of the inferlet")


def test_the_page_loads_all_it_needs_from_the_server(url):
    page = requests.get(f"{url}/dashboard", timeout=PATIENCE_S)
    assert page.text == requests.get(f"{url}/", timeout=PATIENCE_S).text
    todo, seen = re.findall(r'(?:src|href)="(/[^"]+)"', page.text), set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            answer = requests.get(url + path, timeout=PATIENCE_S)
            assert answer.status_code == 200 and len(answer.text) > 50, path
            assert answer.headers["x-content-type-options"] == "nosniff", path
            todo += [f"/dashboard/{name}" for name in re.findall(r' from "\./([^"]+)"', answer.text)]
    assert len(seen) > 5 and "/dashboard/main.js" in seen
    policy = dict(part.split(None, 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy.pop("default-src") == policy.pop("frame-ancestors") == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert requests.get(f"{url}/dashboard/none", timeout=PATIENCE_S).status_code == 404


def test_a_program_is_launched_and_watched_and_its_result_is_shown(page):
    row = launch(page, "text-completion", {"prompt": "Say 'hello'.", "max-tokens": "8"})
    expect(row.get_by_text("finished")).to_be_visible()
    expect(output(page).locator(".text, .result").first).not_to_be_empty()
    expect(page.locator("#inferlet-facts")).to_contain_text("\"--prompt=Say 'hello'.\" --max-tokens=8")


def test_the_form_of_a_program_is_what_it_declares(page):
    show(page, "Programs")
    choose = page.get_by_label("Program", exact=True)
    choose.select_option("constrained-decoding")
    expect(page.locator("#launch-about")).to_contain_text("JSON Schema")
    kind = page.get_by_label("kind", exact=True)
    expect(kind.locator("option")).to_have_text(["json-schema", "json", "regex", "lark", "ebnf"])
    expect(kind).to_have_value("json-schema")
    tokens = page.get_by_label("max-tokens", exact=True)
    expect(tokens).to_have_attribute("placeholder", "128")
    expect(tokens).to_have_attribute("min", "0")
    expect(tokens).to_have_accessible_description("Tokens to generate at most")
    row = launch(page, "beam-search", {"max-tokens": "4"})
    expect(row.get_by_text("finished")).to_be_visible()
    expect(page.get_by_label("check", exact=True)).to_have_attribute("type", "checkbox")
    # One that says nothing of what it takes has a line for arguments.
    choose.select_option("http-server")
    expect(page.get_by_label("Arguments")).to_be_visible()
    expect(page.locator("#launch-error")).to_contain_text("answers HTTP requests")
    choose.select_option("text-completion")
    expect(page.get_by_label("Arguments")).to_be_hidden()
    expect(page.get_by_label("prompt", exact=True)).to_be_visible()


def test_what_a_program_writes_while_it_runs_is_shown_and_it_is_killed_by_keyboard(page):
    show(page, "Programs")
    page.get_by_label("Program", exact=True).select_option(ENDLESS[0])
    ((name, value),) = ENDLESS[1].items()
    page.get_by_label(name, exact=True).focus()
    page.keyboard.type(value)
    page.keyboard.press("Enter")
    row = page.locator("#inferlets tr.chosen")
    expect(row.get_by_text("running")).to_be_visible()
    text = output(page).locator(".text").first
    expect(text).not_to_be_empty()
    before = text.inner_text()
    expect(text).not_to_have_text(before)
    page.get_by_role("button", name="Kill").focus()
    page.keyboard.press("Enter")
    expect(row.get_by_text("killed")).to_be_visible()
    expect(output(page).locator(".failure")).to_contain_text("killed: ")
    expect(page.get_by_role("button", name="Kill")).to_be_hidden()


def test_an_inferlet_that_goes_on_without_the_page_is_found_again(page):
    show(page, "Programs")
    page.get_by_label("Goes on when this page is closed").check()
    row = launch(page, *ENDLESS)
    expect(output(page).locator(".text").first).not_to_be_empty()
    short = row.locator("code").inner_text()
    page.reload()
    page.locator("#inferlets .choose", has_text=short).click()
    expect(page.locator("#inferlet-facts")).to_contain_text(short)
    expect(output(page).locator(".text").first).not_to_be_empty()
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#inferlets tr.chosen").get_by_text("killed")).to_be_visible()


def test_no_text_is_missed_or_doubled_when_the_connection_is_lost(browser, url):
    with opened(browser, "about:blank") as page:
        connections = []

        def connect(socket):
            server = socket.connect_to_server()
            connections.append((socket, server))

        page.route_web_socket("**/v1/session", connect)
        page.goto(url)
        show(page, "Programs")
        texts = []
        for cuts in (0, 3):
            # Greedy: it writes the same each time.
            row = launch(page, ENDLESS[0], {"max-tokens": "120"})
            for _ in range(cuts):
                known = len(connections)
                expect(output(page).locator(".text").first).not_to_be_empty()
                # Not how a client ends a session: 1000 and 1001 do that.
                for end in connections[-1]:
                    end.close(code=3000, reason="cut")
                while len(connections) == known:
                    page.wait_for_timeout(50)
            expect(row.get_by_text("finished")).to_be_visible()
            texts.append(output(page).inner_text())
        assert len(connections) == 4 and len(texts[0]) > 100
        assert texts[0] == texts[1]


def test_the_contexts_of_an_inferlet_are_a_tree_and_its_pages_a_bar(page):
    launch(page, "parallel-generation", {"prompt": "The weather in spring is mild. " * 20, "max-tokens": "1500"})
    contexts = page.get_by_role("region", name="Tree of contexts")
    # A fork stands below the context that it was forked from.
    expect(contexts.locator("ul ul .context").first).to_contain_text("of its parent")
    expect(contexts.locator(".context").first).to_contain_text(re.compile(r"\d+ tokens, \d+ pages?"))
    expect(contexts.get_by_role("img").first).to_have_accessible_name(re.compile(r"Context \d+: \d+ tokens"))
    assert violations(page) == []
    show(page, "Overview")
    row = page.locator("#held li", has_text="parallel-generation")
    expect(row).to_contain_text(re.compile(r"\d+ pages?, [23] contexts"))
    expect(row.get_by_role("img")).to_have_accessible_name(re.compile(r"parallel-generation .*\d+ private"))
    show(page, "Programs")
    page.get_by_role("button", name="Kill").click()
    expect(contexts).to_be_hidden()


def test_what_is_wrong_with_a_launch_is_said(page):
    launch(page, "graph-of-thought", {"proposal-tokens": "4,x"})
    expect(page.locator("#launch-error")).to_contain_text("`--proposal-tokens` is `x`, expected a whole number")
    show(page, "Programs")
    page.get_by_label("Program", exact=True).select_option("http-server")
    page.get_by_label("Arguments").fill('"no end')
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("#launch-error")).to_have_text('a " has no other at its end')


def test_a_chat_streams_and_says_what_it_took(page):
    show(page, "Chat")
    page.get_by_text("Settings").click()
    page.get_by_label("Most tokens").fill("12")
    page.get_by_label("Temperature", exact=True).fill("0")
    for turn, question in enumerate(("What is the capital of France?", "<b>And</b> of Italy?")):
        page.get_by_label("Your message").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator(".message.user .body").nth(turn)).to_have_text(question)
        answer = page.locator(".message.assistant").nth(turn)
        expect(answer.locator(".facts")).to_contain_text(re.compile(r"\d+ tokens · "))
        expect(answer.locator(".body")).not_to_be_empty()
    expect(page.locator(".message b")).to_have_count(0)
    page.get_by_label("Most tokens").fill("0.5")
    page.get_by_label("Your message").fill("Go on")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#chat-error")).to_contain_text("max_tokens")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".message")).to_have_count(0)


def test_the_figures_are_those_of_the_server(page, url, model):
    launch(page, *ENDLESS)
    show(page, "Overview")
    tile = page.locator(".tile", has=page.get_by_text("Generated", exact=True))
    expect(tile.locator(".value")).to_have_text(re.compile(r"[1-9]"))
    expect(page.locator("#generated .line.first")).to_have_attribute("d", re.compile("L"))
    expect(page.locator("#timeline .bar.engine").first).to_be_attached()
    expect(page.locator("#timeline .bar.running").first).to_be_attached()
    expect(page.locator(".kinds .page-private b")).not_to_have_text("0")
    # In one go: they change with each second.
    numbers = page.locator(".kinds b").evaluate_all("numbers => numbers.map((number) => number.textContent)")
    private, shared, cached, free, _ = (int(number.replace(",", "")) for number in numbers)
    metrics = requests.get(f"{url}/stats", timeout=PATIENCE_S).json()["metrics"]
    stats = {metric["name"]: metric["samples"] for metric in metrics}
    expect(page.locator("#models tbody")).to_contain_text(model)
    assert private + shared + cached + free == stats["pie_kv_pages_pool"][0]["value"]
    show(page, "Programs")
    page.get_by_role("button", name="Kill").click()
    expect(page.locator("#inferlets tr.chosen").get_by_text("killed")).to_be_visible()


def violations(page):
    """What axe finds, in short."""
    found = Axe().run(page).response
    assert len(found["passes"]) > 10, "axe has looked at the page"
    return [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_view_is_usable_on_every_width_and_axe_finds_nothing(browser, url, size, colours):
    with opened(browser, url, viewport=size, color_scheme=colours) as page:
        expect(page.locator(".tile").first).to_be_visible()
        row = launch(page, "text-completion", {"max-tokens": "4"})
        expect(row.get_by_text("finished")).to_be_visible()
        for view in ("Overview", "Programs", "Chat"):
            show(page, view)
            expect(page.get_by_role("link", name=view)).to_have_attribute("aria-current", "page")
            assert violations(page) == [], view
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], view


def test_the_colours_are_the_systems_or_chosen(browser, url):
    with opened(browser, url, color_scheme="dark") as page:
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.get_by_label("Colours").select_option("light")
        light = page.evaluate(ground)
        assert light != dark
        page.reload()
        assert page.evaluate(ground) == light, "it is kept"


@pytest.mark.usefixtures("pie")
def test_a_key_is_asked_for_and_shows_what_it_may(browser, tmp_path):
    home = Pie(tmp_path)
    user, admin = home.add_key("ann"), home.add_key("root", "--admin")
    with home.serving(model=model_file(), keys=True) as url, opened(browser, url) as page:
        asked = page.get_by_role("dialog")
        expect(asked).to_be_visible()
        assert violations(page) == []
        page.get_by_label("Key", exact=True).fill(user[:-1] + ("0" if user[-1] != "0" else "1"))
        page.keyboard.press("Enter")
        expect(asked.get_by_role("alert")).to_contain_text("the key is not known")
        page.get_by_label("Key", exact=True).fill(user)
        page.keyboard.press("Enter")
        expect(asked).to_be_hidden()
        expect(page.get_by_text("One made with `pie key add NAME --admin` shows the whole server.")).to_be_visible()
        expect(page.get_by_role("heading", name="Page pool")).to_be_hidden()
        expect(page.locator(".tile", has_text="Tokens computed")).to_be_visible()
        expect(launch(page, "text-completion", {"max-tokens": "4"}).get_by_text("finished")).to_be_visible()
        page.reload()
        show(page, "Chat")
        expect(page.get_by_label("Model", exact=True).locator("option")).to_have_count(1)
        page.get_by_role("button", name="Key").click()
        page.get_by_label("Key", exact=True).fill(admin)
        page.keyboard.press("Enter")
        show(page, "Overview")
        expect(page.get_by_role("heading", name="Page pool")).to_be_visible()
        expect(page.locator("#models tbody")).to_contain_text(MODEL)
        # What ann has launched is hers.
        show(page, "Programs")
        expect(page.get_by_text("No inferlet runs.")).to_be_visible()
