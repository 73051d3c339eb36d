"""Keys: who is let in, and how much each may ask for."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anthropic
import openai
import pytest
import requests

from conftest import MODEL, PATIENCE_S, Pie, model_file

QUESTION = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
# A server looks at the file of keys once a second.
KEYS_ARE_SEEN_S = 10


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def ask(url, key, path="/v1/chat/completions", body=QUESTION):
    return requests.post(url + path, json=body, headers=bearer(key), timeout=PATIENCE_S)


def wait_until(about, holds):
    deadline = time.monotonic() + KEYS_ARE_SEEN_S
    while not holds():
        assert time.monotonic() < deadline, about
        time.sleep(0.1)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A home with a key, and the address of a server that takes it."""
    home = Pie(tmp_path_factory.mktemp("keyed"))
    key = home.add_key("ann")
    with home.serving(model=model_file(), keys=True) as url:
        yield home, url, key


def refused(pie, *arguments):
    """What a server that does not start says."""
    command = [pie.binary, "serve", "--port", "0", "--model", str(model_file()), *arguments]
    server = subprocess.run(command, env=pie.environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert server.returncode == 1, server
    return server.stderr


def test_without_keys_a_server_says_how_to_start(tmp_path):
    said = refused(Pie(tmp_path))
    assert "pie key add NAME" in said and "--no-auth" in said, said


def test_without_keys_nobody_from_elsewhere_is_answered(tmp_path):
    said = refused(Pie(tmp_path), "--no-auth", "--host", "0.0.0.0")
    assert "`host` is `0.0.0.0`" in said and "pie key add NAME" in said, said


def test_clients_of_both_kinds_get_in_with_a_key(keyed):
    _, url, key = keyed
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=PATIENCE_S, max_retries=0)
    assert client.chat.completions.create(model=MODEL, **QUESTION).choices
    client = anthropic.Anthropic(base_url=url, api_key=key, timeout=PATIENCE_S, max_retries=0)
    assert client.messages.create(model=MODEL, **QUESTION).content


def test_without_a_key_or_with_a_wrong_one_nothing_is_answered(keyed):
    _, url, key = keyed
    wrong = key[:-1] + ("1" if key.endswith("0") else "0")
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=wrong, timeout=PATIENCE_S, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as error:
        client.models.list()
    assert error.value.code == "invalid_api_key"
    identifier = key.split("-")[2]
    wrong = [None, "Bearer", f"Basic {key}", key, f"Bearer {key} x", f"Bearer sk-pie-{identifier}-", "Bearer sk-pie-"]
    wrong += [f"Bearer sk-pie-{'0' * 12}-{key.rsplit('-', 1)[1]}", "Bearer " + "a" * 5000]
    texts = set()
    for value in wrong:
        headers = {"authorization": value} if value else {}
        answer = requests.get(f"{url}/v1/models", headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", value
        if value:
            texts.add(answer.json()["error"]["message"])
    assert len(texts) == 1, "nobody learns which ids there are"
    assert requests.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200, "health needs no key"


def test_keys_are_listed_without_what_opens(keyed):
    home, _, key = keyed
    text, lines = home.run("key", "list"), home.run("key", "list", "--json")
    listed = json.loads(lines.splitlines()[0])
    assert (listed["name"], listed["user"], listed["expires"]) == ("ann", "ann", None)
    assert listed["id"] in key and "ann" in text
    assert key.rsplit("-", 1)[1] not in text + lines


def test_a_key_is_added_and_revoked_while_the_server_runs(keyed):
    home, url, _ = keyed
    key = home.add_key("guest")
    wait_until("a new key opens", lambda: ask(url, key, "/tokenize", {"prompt": "a"}).status_code == 200)
    running = requests.post(
        f"{url}/v1/completions", stream=True, headers=bearer(key), timeout=PATIENCE_S,
        json={"prompt": "one two three", "stream": True, "max_tokens": 4000, "ignore_eos": True},
    )
    assert running.status_code == 200, running.text
    lines = running.iter_lines()
    next(lines)
    home.run("key", "revoke", "guest")
    wait_until("a revoked key opens nothing", lambda: ask(url, key).status_code == 401)
    with pytest.raises(requests.RequestException):
        for _ in lines:
            pass


def test_a_key_ends_when_it_was_said_to(tmp_path):
    home = Pie(tmp_path)
    home.add_key("other")
    key = home.add_key("short", "--expires-in", "4s")
    with home.serving(model=model_file(), keys=True) as url:
        wait_until("its time is over", lambda: ask(url, key).status_code == 401)


def test_requests_of_keys_that_are_gone_or_changed_end_and_those_that_wait_do_not_begin(tmp_path):
    home = Pie(tmp_path)
    boss = home.add_key("boss", "--admin")
    # In the order in which they end: revoked, changed in the file, over.
    keys = {"gone": home.add_key("gone", "--running", "1"), "changed": home.add_key("changed")}
    endless = {"prompt": "one two", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    with home.serving(model=model_file(), keys=True) as url:
        keys["short"] = home.add_key("short", "--expires-in", "8s")
        wait_until("a new key opens", lambda: ask(url, keys["short"], "/tokenize", {"prompt": "a"}).status_code == 200)

        def stream(key):
            answer = requests.post(
                f"{url}/v1/completions", json=endless, headers=bearer(key), stream=True, timeout=PATIENCE_S
            )
            lines = answer.iter_lines()
            assert answer.status_code == 200 and next(lines)
            return lines

        def ends(lines):
            with pytest.raises(requests.RequestException):
                for _ in lines:
                    pass

        def running():
            page = requests.get(f"{url}/metrics", headers=bearer(boss), timeout=PATIENCE_S).text
            return "\npie_http_requests_waiting 1.0\n" in page

        streams = {name: stream(key) for name, key in keys.items()}
        second = []
        waiting = threading.Thread(target=lambda: second.append(ask(url, keys["gone"], "/v1/completions", endless)))
        waiting.start()
        wait_until("the second waits", running)
        home.run("key", "revoke", "gone")
        ends(streams["gone"])
        waiting.join(PATIENCE_S)
        assert second[0].status_code == 401, "it does not begin with a key that is gone"
        file = tmp_path / "keys.toml"
        before, _, after = file.read_text().partition('name = "changed"')
        file.write_text(before + 'name = "changed"' + after.replace("[key.limits]", "[key.limits]\ncpu_ms = 1000", 1))
        ends(streams["changed"])
        assert ask(url, keys["changed"], "/tokenize", {"prompt": "a"}).status_code == 200
        ends(streams["short"])
        # Neither of these is a file without keys.
        text = file.read_text()
        for wrong in ["", "key = 3"]:
            file.write_text(wrong)
            time.sleep(1.5)
            assert ask(url, keys["changed"], "/tokenize", {"prompt": "a"}).status_code == 200, wrong
        file.write_text(text)


def test_what_a_key_allows(tmp_path):
    home = Pie(tmp_path)
    keys = {
        "programs": home.add_key("a", "--programs", "api-models,api-tokenize"),
        "models": home.add_key("b", "--models", "another"),
        "requests": home.add_key("c", "--requests-per-minute", "2"),
        "tokens": home.add_key("d", "--tokens-per-minute", "30"),
        "pages": home.add_key("e", "--kv-pages", "1"),
        "nothing": home.add_key("f", "--programs", "none"),
    }
    log = tmp_path / "log"
    with log.open("w") as stderr, home.serving(model=model_file(), keys=True, stderr=stderr) as url:
        warnings = [line for line in log.read_text().splitlines() if "which the key allows" in line]
        assert len(warnings) == 1 and "no model `another`" in warnings[0], "a typo would allow nothing"
        assert ask(url, keys["nothing"]).status_code == 403

        denied = ask(url, keys["programs"])
        assert denied.status_code == 403 and "api-chat" in denied.json()["error"]["message"]
        assert ask(url, keys["programs"], "/tokenize", {"prompt": "a"}).status_code == 200

        assert ask(url, keys["models"]).status_code == 404
        listed = requests.get(f"{url}/v1/models", headers=bearer(keys["models"]), timeout=PATIENCE_S)
        assert listed.json()["data"] == []

        statuses = [ask(url, keys["requests"]) for _ in range(3)]
        assert [answer.status_code for answer in statuses] == [200, 200, 429]
        assert 1 <= int(statuses[-1].headers["retry-after"]) <= 31
        assert statuses[-1].json()["error"]["code"] == "rate_limit_exceeded"

        assert ask(url, keys["tokens"]).status_code == 200, "the first is let in whatever it costs"
        second = ask(url, keys["tokens"])
        assert second.status_code == 429 and "30 tokens a minute" in second.json()["error"]["message"]

        long = {"prompt": "word " * 200, "max_tokens": 1}
        beyond = ask(url, keys["pages"], "/v1/completions", long)
        assert beyond.status_code >= 400 and "pages" in beyond.json()["error"]["message"], beyond.text


def test_requests_beyond_the_places_wait_and_then_are_refused(tmp_path):
    home = Pie(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text("[admission]\nrunning = 1\nwaiting = 1\nwait_ms = 60000\n")
    endless = {"prompt": "one two", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    with home.serving("--config", str(config), model=model_file()) as url:
        first = requests.post(f"{url}/v1/completions", json=endless, stream=True, timeout=PATIENCE_S)
        lines = first.iter_lines()
        next(lines)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(ask(url, "")))
        waiting.start()
        def is_waiting():
            return "\npie_http_requests_waiting 1.0\n" in requests.get(f"{url}/metrics", timeout=PATIENCE_S).text

        wait_until("it waits", is_waiting)
        refused_one = ask(url, "")
        assert refused_one.status_code == 429 and int(refused_one.headers["retry-after"]) >= 1
        assert requests.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200
        assert not answers, "it waits"
        first.close()
        waiting.join(PATIENCE_S)
        assert answers and answers[0].status_code == 200


def test_what_goes_on_behind_its_answer_has_a_place(tmp_path):
    home = Pie(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text("[admission]\nrunning = 2\nwaiting = 0\n")
    with home.serving("--config", str(config), model=model_file()) as url:

        def begin(tokens):
            body = {"input": "one two", "background": True, "max_output_tokens": tokens, "ignore_eos": True}
            begun = ask(url, "", "/v1/responses", body)
            if begun.status_code == 429:
                return None
            assert begun.json()["status"] == "in_progress", begun.text
            return begun.json()["id"]

        def cancel(answer):
            return requests.post(f"{url}/v1/responses/{answer}/cancel", timeout=PATIENCE_S).status_code

        long = begin(4000)
        assert ask(url, "").status_code == 200, "there is a second place"
        second = []
        # The program of the answer before has its place until it has ended.
        wait_until("the second place is free", lambda: second.append(begin(300)) or second[-1])
        refused = ask(url, "")
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert cancel(long) == 429, "the second one makes an answer, too"
        wait_until("the second ends", lambda: cancel(long) == 200)
        wait_until("both places are free", lambda: begin(300) and begin(300))


def test_settings_are_read_again_on_a_signal(tmp_path):
    home = Pie(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text("[admission]\nrunning = 1\nwaiting = 0\n")
    endless = {"prompt": "one two", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    with home.serving("--config", str(config), model=model_file()) as url:
        with requests.post(f"{url}/v1/completions", json=endless, stream=True, timeout=PATIENCE_S) as first:
            lines = first.iter_lines()
            next(lines)
            assert ask(url, "").status_code == 429
            config.write_text("[admission]\nruning = 2\n")
            home.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert ask(url, "").status_code == 429, "a wrong file changes nothing"
            config.write_text("[admission]\nrunning = 2\nwaiting = 0\n")
            home.process.send_signal(signal.SIGHUP)
            wait_until("there is a second place", lambda: ask(url, "").status_code == 200)


def test_a_key_calls_the_mcp_servers_that_it_may(tmp_path):
    home = Pie(tmp_path)
    keys = {name: home.add_key(name, "--mcp", name) for name in ["tools", "nothing"]}
    config = tmp_path / "config.toml"
    command = json.dumps([sys.executable, str(Path(__file__).with_name("mcp_server.py"))])
    config.write_text(f'[[mcp]]\nname = "tools"\ncommand = {command}\ntools = ["add"]\n')
    asked = {
        "input": "Add 1 and 2.", "max_output_tokens": 64,
        "tools": [{"type": "mcp", "server_label": "tools", "require_approval": "never"}],
    }
    with home.serving("--config", str(config), model=model_file(), keys=True) as url:
        allowed = ask(url, keys["tools"], "/v1/responses", asked)
        assert allowed.status_code == 200, allowed.text
        listed = [item for item in allowed.json()["output"] if item["type"] == "mcp_list_tools"]
        assert [tool["name"] for tool in listed[0]["tools"]] == ["add"]
        denied = ask(url, keys["nothing"], "/v1/responses", asked)
        assert denied.status_code == 404 or denied.status_code == 400, denied.text
        assert "none is configured" in denied.text, "it does not even learn the name of another"
