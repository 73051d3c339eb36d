"""Ids of requests and sessions, and the lines of the log that have them."""

import json
import time
import uuid

import pytest
import requests
from conftest import PATIENCE_S, model_file

FRAGMENT = {"prompt": "Hi", "max_tokens": 2}


@pytest.fixture(scope="module")
def logged(pie, tmp_path_factory):
    """A server, and its log so far as a list of objects."""
    log = tmp_path_factory.mktemp("log") / "pie.log"

    def lines():
        return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]

    with open(log, "w") as stderr:
        arguments = ["--log-format", "json", "--serve", "/echo=http-server"]
        with pie.serving(*arguments, model=model_file(), stderr=stderr, PIE_LOG="info") as url:
            yield url, lines


def answers(url, headers):
    """Answers of each kind: of a program, of the server itself, and errors of both."""
    for method, path, body, status in [
        ("POST", "/v1/completions", FRAGMENT, 200),
        ("POST", "/v1/completions", {"prompt": 1}, 400),
        ("GET", "/v1/completions", None, 405),
        ("GET", "/nowhere", None, 404),
        ("GET", "/health", None, 200),
        ("GET", "/metrics", None, 200),
    ]:
        answer = requests.request(method, url + path, json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == status, (path, answer.text)
        yield answer


@pytest.mark.parametrize("header", ["x-request-id", "x-session-id"])
def test_an_id_is_the_clients_or_a_new_one(logged, header):
    url, _ = logged
    for given in ["a", "x" * 128, "!\"{}~", str(uuid.uuid4())]:
        for answer in answers(url, {header: given}):
            assert answer.headers[header] == given
    made = []
    for given in [None, "x" * 129, "two words", "", "\xe9"]:
        for answer in answers(url, {} if given is None else {header: given.encode("latin-1")}):
            made.append(str(uuid.UUID(answer.headers[header])))
    assert len(set(made)) == len(made)


def test_each_line_of_a_request_has_its_id(logged):
    url, lines = logged
    mine = f"mine-{uuid.uuid4()}"
    session = {"x-request-id": mine, "x-session-id": "conversation-7"}
    for answer in answers(url, session):
        assert answer.headers["x-request-id"] == mine
    access = [line for line in lines() if line.get("request_id") == mine and line["target"] == "access"]
    found = [(line["method"], line["route"], line["status"], line["user"]) for line in access]
    assert found == [
        ("POST", "/v1/completions", 200, "local"),
        ("POST", "/v1/completions", 400, "local"),
        ("GET", "/v1/completions", 405, "local"),
        ("GET", "none", 404, ""),
        ("GET", "/health", 200, ""),
        ("GET", "/metrics", 200, ""),
    ]
    for line in access:
        assert line["level"] == "INFO" and line["message"] == "request" and line["complete"] is True
        assert line["session"] == "conversation-7" and 0 < line["duration_ms"] < PATIENCE_S * 1000


def test_what_programs_print_is_of_their_request(logged):
    url, lines = logged
    mine = f"mine-{uuid.uuid4()}"
    # Longer than the context: the program says so on its stderr.
    answer = requests.post(
        f"{url}/echo/complete", data="word " * 20_000, headers={"x-request-id": mine}, timeout=PATIENCE_S
    )
    assert answer.status_code == 200
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        printed = [line for line in lines() if line.get("request_id") == mine and line["level"] == "WARN"]
        if printed:
            break
        time.sleep(0.05)
    assert any("context" in line["message"] for line in printed), printed


def test_a_stream_that_is_left_is_a_line_of_its_own(logged):
    url, lines = logged
    mine = f"mine-{uuid.uuid4()}"
    body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    headers = {"x-request-id": mine}
    with requests.post(f"{url}/v1/completions", json=body, headers=headers, stream=True, timeout=PATIENCE_S) as stream:
        # Held, or the collector of garbage closes the connection.
        events = stream.iter_lines()
        assert next(events).startswith(b"data: ")
        assert not [line for line in lines() if line.get("request_id") == mine], "it is not over"
    deadline, access = time.monotonic() + PATIENCE_S, []
    while time.monotonic() < deadline and not access:
        time.sleep(0.05)
        access = [line for line in lines() if line.get("request_id") == mine and line["target"] == "access"]
    assert [(line["status"], line["complete"]) for line in access] == [(200, False)]


def test_a_log_is_text_unless_it_is_to_be_json(pie, tmp_path):
    log = tmp_path / "pie.log"
    with open(log, "w") as stderr, pie.serving(model=model_file(), stderr=stderr, PIE_LOG="access=info") as url:
        requests.get(f"{url}/health", headers={"x-request-id": "mine"}, timeout=PATIENCE_S)
    text = log.read_text()
    assert "\x1b" not in text, "a file has no colours"
    line = next(line for line in text.splitlines() if "mine" in line)
    assert "INFO" in line and "access" in line and 'route="/health"' in line and "status=200" in line
