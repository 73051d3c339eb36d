"""Two servers behind haproxy, with the config of docs/operating.md: a conversation stays with its pages."""

import contextlib
import re
import shutil
import signal
import subprocess
import time

import pytest
import requests
from conftest import PATIENCE_S, ROOT, free_port, model_file

STORY = "A fox lives at the edge of a wood, and each evening it goes out to look at the village below. "
ROUTE = "/v1/chat/completions"


def documented_config(router_port, servers):
    """The config of the page, with these addresses in the place of its own."""
    page = (ROOT / "docs/operating.md").read_text()
    (config,) = re.findall(r"```haproxy\n(.*?)```", page, re.DOTALL)
    places = [("bind :8000", f"bind 127.0.0.1:{router_port}")]
    places += [(f"10.0.0.{number}:8080", address) for number, address in enumerate(servers, 1)]
    for place, ours in places:
        assert config.count(place) == 1, place
        config = config.replace(place, ours)
    return config


class Routed:
    """A router in front of two servers."""

    def __init__(self, router, servers):
        self.router, self.servers = router, servers

    def ask(self, messages, session=None):
        """One turn: the answer, and the server that gave it, by its number."""
        before = [self.answered(server) for server in self.servers]
        headers = {"x-session-id": session} if session else {}
        body = {"messages": messages, "max_tokens": 8, "temperature": 0}
        answer = requests.post(self.router + ROUTE, json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        after = [self.answered(server) for server in self.servers]
        (server,) = [number for number, count in enumerate(before) if after[number] != count]
        return answer, server

    def answered(self, server):
        """Requests that a server has answered, which it counts when they are over."""
        try:
            metrics = requests.get(f"{server}/stats", timeout=PATIENCE_S).json()["metrics"]
        except requests.ConnectionError:
            return None
        samples = next(metric["samples"] for metric in metrics if metric["name"] == "pie_http_requests_total")
        return sum(sample["value"] for sample in samples if sample["labels"]["route"] == ROUTE)


@contextlib.contextmanager
def haproxy(config, folder):
    path = folder / "haproxy.cfg"
    path.write_text(config)
    process = subprocess.Popen(["haproxy", "-f", str(path), "-db"])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)


@pytest.fixture
def routed(pie, tmp_path):
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed: nothing routes")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(pie.serving(model=model_file()))
        second = stack.enter_context(pie.serving_until_stopped(model=model_file()))
        port = free_port()
        servers = [first, second.url]
        config = documented_config(port, [server.removeprefix("http://") for server in servers])
        stack.enter_context(haproxy(config, tmp_path))
        routed = Routed(f"http://127.0.0.1:{port}", servers)
        wait_for_both(routed)
        yield routed, second


def wait_for_both(routed):
    """haproxy takes servers as up until it has looked; both are."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{routed.router}/health", timeout=PATIENCE_S).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError("the router answers nothing")


def cached(answer):
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def conversation(topic):
    return [{"role": "user", "content": f"{topic}. {STORY * 4}"}]


def test_a_session_stays_with_its_pages_and_moves_when_its_server_is_gone(routed):
    routed, second = routed
    places = {}
    # Ids that the client chooses.
    for number in range(6):
        messages = conversation(number)
        answer, server = routed.ask(messages, f"session-{number}")
        assert answer.headers["x-session-id"] == f"session-{number}"
        places[number] = server
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": "And then?"}]
        for _ in range(2):
            answer, server = routed.ask(messages, f"session-{number}")
            assert server == places[number]
            assert cached(answer) > 0, "its pages are there"
    assert set(places.values()) == {0, 1}, "sessions spread"

    # An id that the server made: the router has learned it from the answer.
    for topic in ["made", "made too"]:
        answer, server = routed.ask(conversation(topic))
        session = answer.headers["x-session-id"]
        for _ in range(2):
            answer, again = routed.ask(conversation(topic), session)
            assert again == server and cached(answer) > 0

    second.stop()
    for number, place in places.items():
        answer, server = routed.ask(conversation(number), f"session-{number}")
        assert server == 0
        if place == 1:
            assert cached(answer) < answer.json()["usage"]["prompt_tokens"] / 2, "it is computed anew"
            answer, _ = routed.ask(conversation(number), f"session-{number}")
            assert cached(answer) > 0, "and has its pages there now"
