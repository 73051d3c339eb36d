"""`/docs`: the page of the routes, which a browser shows without any other host."""

import re
import shutil
import subprocess

import pytest
import requests
from conftest import PATIENCE_S

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def test_the_page_loads_all_it_needs_from_the_server(url):
    page = requests.get(f"{url}/docs", timeout=PATIENCE_S)
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(part.split(None, 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == policy["script-src"] == "'self'"
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/docs/page.js"} <= set(loaded)
    for path in loaded:
        assert path.startswith(("/", "data:")), f"{path} is elsewhere"
    for path in [path for path in loaded if path.startswith("/")] + ["/docs/LICENSE", "/docs/NOTICE", "/docs/"]:
        answer = requests.get(url + path, timeout=PATIENCE_S)
        assert answer.status_code == 200 and len(answer.text) > 50, path
    assert "Apache License" in requests.get(f"{url}/docs/LICENSE", timeout=PATIENCE_S).text
    assert requests.get(f"{url}/docs/none", timeout=PATIENCE_S).status_code == 404
    assert requests.post(f"{url}/docs", timeout=PATIENCE_S).status_code == 405


def test_a_browser_without_a_network_shows_every_route(url, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is there")
    # Names of other hosts lead nowhere.
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking"]
    settings = ["--headless", "--no-sandbox", f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"]
    command = [browser, *settings, *alone, "--dump-dom", f"{url}/docs"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    document = requests.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()
    for path in document["paths"]:
        assert f'data-path="{path}"' in shown.stdout, f"{path} is not on the page: {shown.stderr[-2000:]}"
