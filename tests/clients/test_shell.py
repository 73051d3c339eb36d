"""The shell on a terminal: the editor, and a terminal that goes away."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest
import requests
from conftest import PATIENCE_S, Pie, free_port, model_file


class Terminal:
    """A terminal with a process in it."""

    def __init__(self, command, environment):
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # It is the terminal of the session, so that its end is told by SIGHUP.
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.shown = b""

    def read(self, seconds):
        if select.select([self.ours], [], [], seconds)[0]:
            part = os.read(self.ours, 4096)
            self.shown += part
            # The editor asks where the cursor is.
            if b"\x1b[6n" in part:
                os.write(self.ours, b"\x1b[1;1R")

    def wait_for(self, text):
        """Reads until it is shown behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < deadline and self.process.poll() is None, self.shown
            self.read(0.1)
        self.shown = self.shown.split(text, 1)[1]

    def wait_for_prompt(self):
        """Until the editor reads: it asks where the cursor is, and shows its prompt there."""
        self.wait_for(b"\x1b[6n")
        self.wait_for(b"pie")

    def type(self, text):
        os.write(self.ours, text)

    def close(self):
        if self.ours is not None:
            os.close(self.ours)
            self.ours = None


@pytest.fixture
def terminal(tmp_path):
    """`pie start` on a terminal, and its address."""
    pie, port = Pie(tmp_path), free_port()
    command = [pie.binary, "start", "--no-auth", "--port", str(port), "--model", str(model_file())]
    terminal = Terminal(command, dict(pie.environment, TERM="xterm"))
    try:
        terminal.wait_for(b"lists the commands")
        terminal.wait_for_prompt()
        yield terminal, f"http://127.0.0.1:{port}"
    finally:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


def test_the_editor_completes_commands_and_ctrl_d_stops_the_server(terminal):
    terminal, _ = terminal
    terminal.type(b"mod\t\r")
    terminal.wait_for(b"smollm2-135m-q4_1  llama, context of")
    terminal.wait_for_prompt()
    # Of a line that is begun, Ctrl-C leaves nothing, and the server goes on.
    terminal.type(b"exi\x03")
    terminal.wait_for_prompt()
    terminal.type(b"services\r")
    terminal.wait_for(b"/v1/chat/completions  api-chat")
    terminal.wait_for_prompt()
    terminal.type(b"\x04")
    deadline = time.monotonic() + PATIENCE_S
    while terminal.process.poll() is None:
        assert time.monotonic() < deadline, "it still runs"
        with contextlib.suppress(OSError):
            terminal.read(0.1)
    assert terminal.process.returncode == 0


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_a_server_whose_terminal_goes_away_serves_on_and_does_not_spin(terminal):
    terminal, url = terminal
    terminal.close()
    # It hears of the end of its terminal, which also means that it reads its configuration again.
    time.sleep(4)
    before = processor_seconds(terminal.process.pid)
    time.sleep(3)
    # A thread that reads the end of the input over and over takes all it can get of a processor.
    assert processor_seconds(terminal.process.pid) - before < 0.6
    assert requests.get(f"{url}/health", timeout=PATIENCE_S).status_code == 200
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(timeout=PATIENCE_S) == 0


def test_what_runs_in_the_foreground_goes_on_without_its_terminal(terminal, pie):
    terminal, url = terminal
    line = b"run text-completion -- --prompt 'Write a very long story about the sea.' --max-tokens 4000\r"
    terminal.type(line)
    terminal.wait_for(b"Inferlet launched with ID")
    terminal.close()
    time.sleep(1)
    listed = pie.run("ps", "--json", "--server", url)
    assert json.loads(listed)["state"] == "running", listed
    # It is told to stop, has something to say about that, and nobody to say it to.
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(timeout=PATIENCE_S) == 0
