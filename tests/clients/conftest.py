"""Applications against a server: what their documentation shows, unmodified, and what a hostile one sends.

`cargo xtask test --clients` runs these. A server is started from PIE_BIN with the model in PIE_TEST_MODELS and ends
before the last test is over; with PIE_URL the tests talk to one that runs, and those that need a server of their own
are skipped. Nothing here says how fast anything is: limits of time are there to find what hangs.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
# The package as it is in the tree: test_python_client_package.py installs it.
sys.path.insert(0, str(ROOT / "clients/python/src"))
MODEL = "smollm2-135m-q4_1"
# Nothing that is asked here takes nearly as long.
PATIENCE_S = 60
# The program that shows how a route is taken over, at a path of its own.
RETRIEVAL = "/retrieval/chat/completions=api-retrieval"


# By the tree and not by what the server answers: one that has them and does not answer has failed.
needs_sessions = pytest.mark.skipif(
    not (ROOT / "crates/server/src/session").exists(), reason="the server of this tree has no sessions"
)


def asynchronous(test):
    """A test that is a coroutine. It ends in time, which is that of several things that are asked."""

    @functools.wraps(test)
    def run(*arguments, **named):
        async def bounded():
            async with asyncio.timeout(5 * PATIENCE_S):
                await test(*arguments, **named)

        asyncio.run(bounded())

    return run


def model_file():
    folder = os.environ.get("PIE_TEST_MODELS")
    assert folder, "PIE_TEST_MODELS is not set: the folder with the model that tests use"
    return Path(folder) / f"{MODEL}.gguf"


class Pie:
    """The binary, with a home of its own."""

    def __init__(self, home):
        assert "PIE_BIN" in os.environ, "PIE_BIN is not set: the binary that is tested"
        self.binary = os.environ["PIE_BIN"]
        programs = ROOT / "inferlets/target/wasm32-wasip2/release"
        # Programs are compiled once for all homes.
        compiled, cache = ROOT / "target/tmp/clients-cache", Path(home) / "cache"
        compiled.mkdir(parents=True, exist_ok=True)
        cache.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(cache):
            cache.symlink_to(compiled, target_is_directory=True)
        self.environment = dict(os.environ, PIE_HOME=str(home), PIE_PROGRAMS=str(programs))

    def run(self, *arguments):
        """What a command writes to stdout."""
        command = [self.binary, *arguments]
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=PATIENCE_S
        ).stdout

    def add_key(self, *arguments):
        """A new key."""
        return self.run("key", "add", *arguments).strip()

    @contextlib.contextmanager
    def serving(self, *arguments, model=None, keys=False, scheme="http", stderr=None, **environment):
        """The address of a server that ends with code 0 when it is told to. A model of None is that of a config; with
        `keys` it answers those that `add_key` has made, and nobody else."""
        options = {"model": model, "keys": keys, "scheme": scheme, "stderr": stderr}
        with self.serving_until_stopped(*arguments, **options, **environment) as server:
            yield server.url

    @contextlib.contextmanager
    def serving_until_stopped(
        self, *arguments, model=None, keys=False, scheme="http", stderr=None, **environment
    ):
        """A server that may be told to stop before its time."""
        port = free_port()
        command = [self.binary, "serve", "--port", str(port), *arguments]
        command += [] if keys else ["--no-auth"]
        command += ["--model", str(model)] if model else []
        process = subprocess.Popen(command, env=dict(self.environment, **environment), stderr=stderr)
        server = Server(process, f"{scheme}://127.0.0.1:{port}")
        self.process = process
        try:
            wait_for_health(process, server.url)
            yield server
            server.stop()
        finally:
            process.kill()
            process.wait()


class Server:
    """A process that serves, and its address."""

    def __init__(self, process, url):
        self.process, self.url = process, url

    def stop(self):
        """Tells it to end, once."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=PATIENCE_S) == 0, "the server's exit code"


def free_port():
    """A port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_health(server, url):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended with code {server.returncode}"
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{url}/health", timeout=PATIENCE_S, verify=False).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{url} is not ready after {PATIENCE_S} s")


@pytest.fixture
def nothing_is_left_unsaid(caplog):
    """asyncio logs the errors of tasks and futures that nobody looked at."""
    with caplog.at_level(logging.ERROR, logger="asyncio"):
        yield
        gc.collect()
    records = caplog.get_records("call") + caplog.get_records("teardown")
    assert not [record.getMessage() for record in records if record.name == "asyncio"]


@pytest.fixture(scope="session")
def pie(tmp_path_factory):
    if "PIE_URL" in os.environ:
        pytest.skip("PIE_URL is set, and this needs a server of its own")
    return Pie(tmp_path_factory.mktemp("pie-home"))


@pytest.fixture(scope="session")
def url(request):
    """The address of the server, without a slash at its end."""
    if "PIE_URL" in os.environ:
        yield os.environ["PIE_URL"].rstrip("/")
        return
    pie = request.getfixturevalue("pie")
    with pie.serving("--serve", RETRIEVAL, model=model_file()) as address:
        yield address


@pytest.fixture(scope="session")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=PATIENCE_S, max_retries=0)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="session")
def post(url):
    """Sends an object, or bytes as they are, to a path: the status, and the JSON answer or the text of its events."""

    def send(path, body):
        kind = {"data": body} if isinstance(body, bytes) else {"json": body}
        headers = {"content-type": "application/json"}
        response = requests.post(url + path, headers=headers, timeout=PATIENCE_S, **kind)
        is_json = response.headers["content-type"] == "application/json"
        return response.status_code, response.json() if is_json else response.text

    return send
