"""A client that goes away ends its inferlet.

The server here has room for one inferlet of the routes' user, so that it answers a second request says that the first
one's is gone. Left alone, that one writes until the context is full, which takes far longer than the test waits.
"""

import contextlib
import json
import time

import pytest
import requests
from conftest import PATIENCE_S, model_file

ENDLESS = {"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": True}
# A step takes milliseconds; to fill the context of 8192 tokens takes much more than this.
SOON_S = 5


@pytest.fixture(scope="module")
def narrow(pie, tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "pie.toml"
    config.write_text(f"[limits]\nuser_inferlets = 1\n[[backend]]\nmodel = {json.dumps(str(model_file()))}\n")
    with pie.serving("--config", str(config)) as url:
        yield url


@contextlib.contextmanager
def begun(url, body):
    """A stream of which one line was read; its connection is closed in the end."""
    with requests.post(url, json=body, stream=True, timeout=PATIENCE_S) as response:
        # Held, or the collector of garbage closes the connection.
        lines = response.iter_lines()
        assert next(lines).startswith(b"data: ")
        yield


def assert_next_is_answered(url):
    start = time.monotonic()
    assert requests.get(f"{url}/v1/models", timeout=PATIENCE_S).status_code == 200
    assert time.monotonic() - start < SOON_S


def test_while_one_is_answered_another_waits(narrow):
    """What the others rely on."""
    with begun(f"{narrow}/v1/chat/completions", {**ENDLESS, "stream": True}):
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{narrow}/v1/models", timeout=1)
    assert_next_is_answered(narrow)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_one_that_leaves_within_a_stream(narrow, path):
    body = {**ENDLESS, "stream": True}
    if path == "/v1/completions":
        body = {"prompt": "Hi", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    for _ in range(3):
        with begun(narrow + path, body):
            pass
        assert_next_is_answered(narrow)


def test_one_that_leaves_before_the_answer_begins(narrow):
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{narrow}/v1/chat/completions", json=ENDLESS, timeout=0.5)
    assert_next_is_answered(narrow)
