"""The examples of clients/python/README.md, each run as it stands: what they print is what the page has behind them."""

import os
import re
import subprocess
import sys

import pytest
from conftest import PATIENCE_S, ROOT, needs_sessions

PAGE = (ROOT / "clients/python/README.md").read_text()
ADDRESS = "ws://127.0.0.1:8080"
# Each program, and the text behind it where there is one.
EXAMPLES = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", PAGE, re.DOTALL)


@needs_sessions
@pytest.mark.parametrize(("program", "printed"), EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_runs_and_prints_what_the_page_says(url, program, printed, tmp_path):
    assert ADDRESS in program, "an example names the server as the page does"
    program = program.replace(ADDRESS, url.replace("http://", "ws://"))
    # A program of one's own: no other has its hash.
    theirs = (ROOT / "inferlets/target/wasm32-wasip2/release/text_completion.wasm").read_bytes()
    (tmp_path / "my_completion.wasm").write_bytes(theirs + b"\0\x05\x04mine")
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "clients/python/src"))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == printed if printed else ran.stdout.strip(), ran.stdout


def test_the_page_has_an_example_of_each_part():
    assert len(EXAMPLES) == len(re.findall("```python", PAGE)) >= 6
    assert len(re.findall("```text", PAGE)) == sum(bool(printed) for _, printed in EXAMPLES)


def test_every_error_and_kind_of_event_is_on_the_page():
    import pie_client

    errors = {
        name for name, value in vars(pie_client).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    for name in [*errors, *pie_client.EventKind]:
        assert f"`{name}`" in PAGE, f"the page does not say what `{name}` is"
