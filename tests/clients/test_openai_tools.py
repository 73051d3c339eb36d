"""The `openai` package: tools, from the question to the answer after the call."""

import json

import pytest


def tool(name, about):
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": city}}


TOOLS = [tool("get_weather", "The weather in a city"), tool("get_time", "The time in a city")]
QUESTION = [{"role": "user", "content": "How is the weather in Paris?"}]


@pytest.fixture
def chat(client, model):
    def create(messages=QUESTION, **settings):
        settings = {"temperature": 0, "max_tokens": 300, "tools": TOOLS, **settings}
        return client.chat.completions.create(model=model, messages=messages, **settings)

    return create


def the_call(answer):
    """The only call of an answer."""
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls" and call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"city"}
    return call


def named(name):
    return {"type": "function", "function": {"name": name}}


def test_a_required_call_is_answered_and_the_chat_goes_on(chat):
    first = chat(tool_choice="required", parallel_tool_calls=False)
    call = the_call(first)
    assert call.function.name in ("get_weather", "get_time") and first.choices[0].message.content is None
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees"}
    answer = chat([*QUESTION, first.choices[0].message, result], max_tokens=40, tool_choice="none")
    assert answer.choices[0].message.content and not answer.choices[0].message.tool_calls
    alone = chat(max_tokens=1, tool_choice="none")
    assert answer.usage.prompt_tokens > alone.usage.prompt_tokens + 10, "the call and its result are in the prompt"


@pytest.mark.parametrize("name", ["get_weather", "get_time"])
def test_a_tool_that_is_named_is_called(chat, name):
    assert the_call(chat(tool_choice=named(name))).function.name == name


def test_deltas_assemble_to_the_same_call(chat):
    whole = the_call(chat(tool_choice=named("get_weather")))
    name, arguments, ids, pieces, reason = "", "", set(), 0, None
    for chunk in chat(tool_choice=named("get_weather"), stream=True):
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        for delta in choice.delta.tool_calls or []:
            assert delta.index == 0
            ids |= {delta.id} - {None}
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
            pieces += 1
    assert (name, arguments) == (whole.function.name, whole.function.arguments)
    assert len(ids) == 1 and pieces > 2 and reason == "tool_calls"


def test_tools_that_may_not_be_called_are_not_shown(chat):
    with_none, without = chat(tool_choice="none", max_tokens=5), chat(tools=None, max_tokens=5)
    assert with_none.choices[0].message.content == without.choices[0].message.content
    assert with_none.usage.prompt_tokens == without.usage.prompt_tokens
