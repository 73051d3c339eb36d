"""Tools of MCP servers that are made with the `mcp` package: called by programs, and within answers of `/v1/responses`.

What a small model wants to call is chance, so each test says which tool is to be called, and the arguments are digits.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from conftest import MODEL, PATIENCE_S, Pie, free_port, model_file

SERVER = str(Path(__file__).with_name("mcp_server.py"))
TOKEN = "a-secret"


@contextlib.contextmanager
def remote_server():
    """The address of a server over streamable HTTP."""
    port = free_port()
    server = subprocess.Popen([sys.executable, SERVER, str(port)], env=dict(os.environ, MCP_TOKEN=TOKEN))
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert server.poll() is None, "the MCP server ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def remote(pie):
    with remote_server() as url:
        yield url


@pytest.fixture(scope="module")
def configured(pie, remote, tmp_path_factory):
    """The binary, with a token in its environment, and a config with servers."""
    command = json.dumps([sys.executable, SERVER])
    config = tmp_path_factory.mktemp("mcp") / "config.toml"
    config.write_text(
        f"""
        [[mcp]]
        name = "local"
        command = {command}
        env = ["GREETING=hello"]
        tools = ["add", "fail", "process"]
        [[mcp]]
        name = "remote"
        url = "{remote}"
        headers = ["Authorization: Bearer ${{MCP_TOKEN}}"]
        [[mcp]]
        name = "untold"
        url = "{remote}"
        [[mcp]]
        name = "others"
        command = {command}
        users = ["somebody else"]
        [[mcp]]
        name = "down"
        url = "http://127.0.0.1:9/mcp"
        """
    )
    binary = Pie(pie.environment["PIE_HOME"])
    binary.environment["MCP_TOKEN"] = TOKEN
    return binary, str(config)


@pytest.fixture(scope="module")
def responses(configured):
    binary, config = configured
    with binary.serving("--config", config, model=model_file()) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=PATIENCE_S, max_retries=0).responses


def tool(label, **more):
    return {"type": "mcp", "server_label": label, "require_approval": "never", **more}


def choice(label, name):
    return {"type": "mcp", "server_label": label, "name": name}


def ask(responses, label, name, tools=None, **more):
    """An answer that calls a tool once."""
    parameters = {"model": MODEL, "input": "Go on.", "max_output_tokens": 200, "temperature": 0, **more}
    tools = tools or [tool(label)]
    return responses.create(tools=tools, tool_choice=choice(label, name), max_tool_calls=1, **parameters)


def is_sum(call):
    arguments = json.loads(call.arguments)
    return call.output == str(arguments["a"] + arguments["b"])


@pytest.mark.parametrize("label", ["local", "remote"])
def test_a_tool_is_called_and_the_model_goes_on(responses, label):
    answer = ask(responses, label, "add")
    listed, call, message = answer.output
    assert (listed.type, listed.server_label) == ("mcp_list_tools", label)
    allowed = ["add", "fail", "process"] + (["hidden"] if label == "remote" else [])
    assert [tool.name for tool in listed.tools] == allowed
    assert listed.tools[0].description == "The sum of two digits."
    assert (call.type, call.server_label, call.name, call.error) == ("mcp_call", label, "add", None)
    assert call.status == "completed" and is_sum(call)
    assert message.type == "message"
    assert responses.retrieve(answer.id).output == answer.output


def test_a_server_may_be_named_by_its_address(responses, remote):
    answer = ask(responses, "mine", "add", [tool("mine", server_url=remote, allowed_tools=["add"])])
    assert [item.type for item in answer.output] == ["mcp_list_tools", "mcp_call", "message"]
    assert [tool.name for tool in answer.output[0].tools] == ["add"] and is_sum(answer.output[1])


def test_a_failure_is_told_to_the_model(responses):
    call = ask(responses, "local", "fail").output[1]
    assert (call.status, call.output) == ("failed", None)
    assert "it failed as asked" in call.error


def test_a_stream_tells_of_lists_and_calls(responses):
    events = list(ask(responses, "local", "add", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    arguments = [kind for kind in kinds if kind == "mcp_call_arguments.delta"]
    listed = ["output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed", "output_item.done"]
    called = ["mcp_call_arguments.done", "mcp_call.completed", "output_item.done"]
    begin = ["created", "in_progress", *listed, "output_item.added", "mcp_call.in_progress", *arguments, *called]
    assert kinds[: len(begin)] == begin
    final = events[-1].response
    deltas = "".join(event.delta for event in events if event.type == "response.mcp_call_arguments.delta")
    assert final.output[1].arguments == deltas and is_sum(final.output[1])
    for event in events:
        if hasattr(event, "item_id"):
            assert final.output[event.output_index].id == event.item_id


def test_the_package_gathers_a_stream(responses):
    with responses.stream(
        model=MODEL, input="Go on.", max_output_tokens=200, tools=[tool("local")], tool_choice=choice("local", "add")
    ) as stream:
        last = list(stream)[-1]
        # What is said behind the call may be longer than it may be: then the package has no final response.
        assert last.type in ("response.completed", "response.incomplete"), last
        assert is_sum(last.response.output[1])
        if last.type == "response.completed":
            assert is_sum(stream.get_final_response().output[1])


def test_the_next_turn_has_the_call_in_its_context(responses):
    answer = ask(responses, "local", "add")
    parameters = {"model": MODEL, "max_output_tokens": 8, "tools": [tool("local")], "max_tool_calls": 1}
    kept = responses.create(input="And?", previous_response_id=answer.id, tool_choice="none", **parameters)
    bare = responses.create(input="And?", tool_choice="none", **parameters)
    assert kept.usage.input_tokens > bare.usage.input_tokens
    user = [{"role": "user", "content": "Go on."}]
    items = user + [item.model_dump() for item in answer.output] + [{"role": "user", "content": "And?"}]
    sent = responses.create(input=items, tool_choice="none", store=False, **parameters)
    assert sent.usage.input_tokens == kept.usage.input_tokens
    calls = [item for item in responses.retrieve(answer.id).output if item.type == "mcp_call"]
    assert len(calls) == 1


def test_an_answer_in_the_background_calls_tools(responses):
    answer = ask(responses, "local", "add", background=True)
    deadline = time.monotonic() + PATIENCE_S
    while answer.status == "in_progress" and time.monotonic() < deadline:
        time.sleep(0.1)
        answer = responses.retrieve(answer.id)
    assert is_sum(answer.output[1])


def test_a_process_has_its_environment_and_is_started_again(responses):
    def process():
        pid, greeting, token = ask(responses, "local", "process").output[1].output.split()
        assert (greeting, token) == ("hello", "None"), "only what the operator gives"
        return int(pid)

    first = process()
    assert process() == first, "one session for all"
    os.kill(first, 9)
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{first}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process() != first


@pytest.mark.parametrize(
    "wrong, param",
    [
        (tool("nobody"), "tools[0].server_label"),
        (tool("others"), "tools[0].server_label"),
        (tool("local", server_url="http://127.0.0.1:1/mcp"), "tools[0].server_url"),
        (tool("local", require_approval="always"), "tools[0].require_approval"),
        (tool("local", allowed_tools=["hidden"]), "tools[0].allowed_tools"),
        (tool("local", headers={"a": "b"}), "tools[0].headers"),
        (tool("local", authorization="a"), "tools[0].authorization"),
    ],
)
def test_what_is_wrong_is_named(responses, wrong, param):
    with pytest.raises(openai.BadRequestError) as error:
        responses.create(model=MODEL, input="Hi", tools=[wrong])
    assert error.value.param == param


@pytest.mark.parametrize("label", ["down", "untold"])
def test_a_server_that_does_not_list_its_tools_is_named(responses, label):
    with pytest.raises(openai.APIStatusError) as error:
        responses.create(model=MODEL, input="Hi", tools=[tool(label)])
    assert (error.value.status_code, error.value.param) == (424, "tools[0]")
    assert label in str(error.value)


@pytest.mark.parametrize("label", ["local", "remote"])
def test_a_program_calls_tools(configured, label):
    binary, config = configured
    program = ["agent-mcp", "--", "--mcp", label, "--steps", "1", "--max-tokens", "64"]
    said = binary.run("run", "--config", config, "--model", str(model_file()), *program)
    [call] = json.loads(said.splitlines()[-1])["calls"]
    assert json.loads(call["call"])["name"] in ("add", "fail", "process", "hidden")
    assert call["result"] != "error: the call was not written to its end"


def test_processes_end_with_the_server(configured, tmp_path):
    config = configured[1]
    binary = Pie(tmp_path)
    binary.environment["MCP_TOKEN"] = TOKEN
    with binary.serving("--config", config, model=model_file()) as url:
        responses = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=PATIENCE_S, max_retries=0).responses
        pid = ask(responses, "local", "process").output[1].output.split()[0]
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
