"""`/v1/messages` by the `anthropic` package: messages, streams, tools there and back, errors.

The first model of the server's list answers. A small model says anything, so the tests hold it
to the form of an answer, not to its words.
"""

import anthropic
import httpx
import pytest

WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture(scope="module", autouse=True)
def server(url):
    """What the tests ask, and for which model."""
    global URL, MODEL
    URL = url
    MODEL = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]


@pytest.fixture
def client():
    return anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)


def complete(parameters):
    """Parameters of a call. The package has none for how tokens are drawn, so they go beside its own."""
    drawn = {name: parameters.pop(name) for name in ("temperature", "top_k", "top_p") if name in parameters}
    parameters = {"model": MODEL, "max_tokens": 16, "messages": ASK, **parameters}
    return {**parameters, "extra_body": {**parameters.get("extra_body", {}), **drawn}}


def create(client, **parameters):
    return client.messages.create(**complete(parameters))


def stream_of(client, **parameters):
    return client.messages.stream(**complete(parameters))


def test_a_message_has_text_and_usage(client):
    answer = create(client, system="Be brief.", temperature=0, top_k=5, top_p=0.9, metadata={"user_id": "me"})
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", MODEL)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert 0 < answer.usage.output_tokens <= 16
    again = create(client, system="Be brief.", temperature=0)
    assert again.content == answer.content
    assert again.usage.cache_read_input_tokens > 0 and again.usage.input_tokens > 0
    total = lambda usage: usage.input_tokens + usage.cache_read_input_tokens
    assert total(again.usage) == total(answer.usage)


def test_tokens_are_counted_before_they_are_computed(client):
    count = client.messages.count_tokens(model=MODEL, messages=ASK, system="Be brief.").input_tokens
    usage = create(client, system="Be brief.", max_tokens=1).usage
    assert count == usage.input_tokens + usage.cache_read_input_tokens


def test_why_an_answer_ends_is_told(client):
    assert create(client, max_tokens=2).stop_reason == "max_tokens"
    words = create(client, temperature=0).content[0].text.split()
    answer = create(client, temperature=0, stop_sequences=["never said", words[2]])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", words[2])
    assert words[2] not in "".join(block.text for block in answer.content)


def test_a_stream_says_what_the_message_says(client):
    whole = create(client, temperature=0)
    with stream_of(client, temperature=0) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.cache_read_input_tokens > 0
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds.index("content_block_start") < kinds.index("content_block_delta") < kinds.index("content_block_stop")


def test_events_have_names():
    body = {"model": MODEL, "max_tokens": 4, "messages": ASK, "stream": True}
    lines = httpx.post(f"{URL}/v1/messages", json=body).text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert (names[0], names[-2:]) == ("message_start", ["message_delta", "message_stop"])


def test_a_message_of_the_assistant_is_gone_on_with(client):
    one_to_three = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2, 3,"}]
    answer = create(client, messages=one_to_three, temperature=0, max_tokens=4)
    assert answer.content[0].text.strip()[:1].isdigit()


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_is_called_and_its_result_is_read(client, choice):
    choice = {**choice, "disable_parallel_tool_use": True}
    answer = create(client, tools=[WEATHER], tool_choice=choice, max_tokens=200)
    assert answer.stop_reason == "tool_use"
    [call] = answer.content
    assert (call.type, call.name, list(call.input)) == ("tool_use", "weather", ["city"])
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain."}]}
    messages = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    last = create(client, messages=messages, tools=[WEATHER], tool_choice={"type": "none"})
    assert [block.type for block in last.content] == ["text"]


def test_a_call_is_streamed_as_json(client):
    choice = {"type": "any", "disable_parallel_tool_use": True}
    parameters = {"tools": [WEATHER], "tool_choice": choice, "temperature": 0}
    with stream_of(client, max_tokens=200, **parameters) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert final.content[0].input == create(client, max_tokens=200, **parameters).content[0].input
    assert final.stop_reason == "tool_use"


def test_thinking_can_be_asked_for_and_told_back(client):
    create(client, thinking={"type": "enabled", "budget_tokens": 1024})
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "Rain."}]}
    create(client, messages=[*ASK, said, *ASK], thinking={"type": "disabled"})


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"extra_body": {"foo": 1}}, "foo"),
        ({"temperature": 7}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "other"),
        ({"thinking": {"type": "perhaps"}}, "thinking.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_what_is_wrong_is_named(client, wrong, named):
    with pytest.raises(anthropic.BadRequestError) as error:
        create(client, **wrong)
    assert error.value.body["type"] == "error"
    assert error.value.body["error"]["type"] == "invalid_request_error"
    assert named in error.value.body["error"]["message"]


def test_the_number_of_tokens_must_be_given():
    answer = httpx.post(f"{URL}/v1/messages", json={"model": MODEL, "messages": ASK})
    assert answer.status_code == 400 and "max_tokens" in answer.json()["error"]["message"]


def test_what_is_not_there_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError) as error:
        create(client, model="none")
    assert error.value.body["error"]["type"] == "not_found_error"
    assert httpx.post(f"{URL}/v1/messages/none", json={}).json()["error"]["type"] == "not_found_error"
    assert httpx.get(f"{URL}/v1/messages").status_code == 405
