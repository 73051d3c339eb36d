"""`/v1/responses` by the `openai` package: answers that are kept, conversations, streams, tools there and back, errors.

The first model of the server's list answers. A small model says anything, so the tests hold it
to the form of an answer, not to its words.
"""

import json
import shutil
import time
from pathlib import Path

import httpx
import openai
import pytest
from conftest import Pie, model_file

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "description": "The weather of a city", "parameters": SCHEMA}
ASK = "What is the weather in Paris?"


@pytest.fixture(scope="module", autouse=True)
def server(url):
    """What the tests ask, and for which model."""
    global URL, MODEL
    URL = f"{url}/v1"
    MODEL = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]


@pytest.fixture
def client():
    return openai.OpenAI(base_url=URL, api_key="none", max_retries=0)


def create(client, **parameters):
    return client.responses.create(**{"model": MODEL, "input": ASK, "max_output_tokens": 16, **parameters})


def test_an_answer_has_a_message_and_usage(client):
    answer = create(client, instructions="Be brief.", temperature=0, metadata={"a": "b"})
    assert (answer.object, answer.model) == ("response", MODEL)
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == answer.output[0].content[0].text != ""
    assert (answer.instructions, answer.metadata) == ("Be brief.", {"a": "b"})
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert create(client, instructions="Be brief.", temperature=0).output_text == answer.output_text


def test_an_answer_that_is_cut_off_is_incomplete(client):
    answer = create(client, max_output_tokens=2)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete"


def test_an_answer_is_kept_until_it_is_deleted(client):
    answer = create(client, input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}])
    assert client.responses.retrieve(answer.id) == answer
    texts = lambda items: [item.content[0].text for item in items]
    items = client.responses.input_items.list(answer.id, order="asc")
    assert texts(items.data) == ["one", "two"]
    pages = client.responses.input_items.list(answer.id, limit=1)
    assert pages.has_more and texts(pages) == ["two", "one"]
    client.responses.delete(answer.id)
    for lost in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError):
            lost(answer.id)


def test_an_answer_that_is_not_stored_is_not_kept(client):
    answer = create(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_a_turn_computes_only_what_is_new(client):
    before, turns = None, []
    for turn in range(10):
        previous = before and before.id
        answer = create(client, input=f"Question {turn}", previous_response_id=previous, temperature=0)
        if before:
            known = before.usage.input_tokens + before.usage.output_tokens
            new = answer.usage.input_tokens - answer.usage.input_tokens_details.cached_tokens
            # A stop token is no part of the context, the message and two headers are new.
            assert answer.usage.input_tokens >= known
            assert new <= answer.usage.input_tokens - known + 2, turns
            turns.append(new)
        before = answer
    assert max(turns) <= min(turns) + 8, turns
    assert before.usage.input_tokens > 10 * min(turns)


def test_a_conversation_may_go_on_from_any_answer(client):
    first = create(client, input="My name is Ann.", temperature=0)
    last = create(client, input="Hello", previous_response_id=first.id, temperature=0)
    again = create(client, input="Hello", previous_response_id=first.id, temperature=0)
    assert last.output_text == again.output_text
    said = {"role": "assistant", "content": first.output_text}
    whole = [{"role": "user", "content": "My name is Ann."}, said, {"role": "user", "content": "Hello"}]
    assert create(client, input=whole, temperature=0).usage.input_tokens == last.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as error:
        create(client, previous_response_id=last.id)
    assert error.value.code == "previous_response_not_found" and first.id in str(error.value)


def test_a_stream_tells_the_answer_from_its_beginning_to_its_end(client):
    events = list(create(client, stream=True, temperature=0))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    text = [kind for kind in kinds if kind == "output_text.delta"]
    begin = ["created", "in_progress", "output_item.added", "content_part.added"]
    end = ["output_text.done", "content_part.done", "output_item.done", kinds[-1]]
    assert kinds == [*begin, *text, *end]
    final = events[-1].response
    assert kinds[-1] == final.status and final.status in ("completed", "incomplete")
    assert final.output_text == "".join(event.delta for event in events if event.type.endswith("text.delta"))
    assert final.output_text == create(client, temperature=0).output_text
    assert client.responses.retrieve(final.id).output == final.output


def test_the_package_gathers_a_stream(client):
    parameters = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    # Any other city may be longer than the answer.
    parameters["extra_body"] = {"seed": 1}
    with client.responses.stream(model=MODEL, input=ASK, max_output_tokens=200, **parameters) as stream:
        kinds = [event.type.removeprefix("response.") for event in stream]
        final = stream.get_final_response()
    assert "function_call_arguments.delta" in kinds and "function_call_arguments.done" in kinds
    assert list(json.loads(final.output[0].arguments)) == ["city"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_tool_is_called_and_its_output_is_read(client, choice):
    parameters = {"tools": [WEATHER], "parallel_tool_calls": False, "max_output_tokens": 200}
    answer = create(client, tool_choice=choice, **parameters)
    [call] = answer.output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")
    assert list(json.loads(call.arguments)) == ["city"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    kept = create(client, input=[result], previous_response_id=answer.id, tool_choice="none", **parameters)
    assert kept.output[0].type == "message"
    user = {"role": "user", "content": ASK}
    sent = create(client, input=[user, call.model_dump(), result], store=False, tool_choice="none", **parameters)
    assert sent.usage.input_tokens == kept.usage.input_tokens


def test_an_answer_has_the_form_that_is_asked_for(client):
    form = {"type": "json_schema", "name": "place", "schema": SCHEMA}
    answer = create(client, text={"format": form}, max_output_tokens=200)
    assert list(json.loads(answer.output_text)) == ["city"]


def test_an_answer_is_made_in_the_background(client):
    answer = create(client, background=True)
    assert answer.status == "in_progress"
    for _ in range(200):
        answer = client.responses.retrieve(answer.id)
        if answer.status != "in_progress":
            break
        time.sleep(0.1)
    assert answer.status in ("completed", "incomplete") and answer.output_text
    assert create(client, previous_response_id=answer.id).output_text
    assert client.responses.cancel(answer.id).status == answer.status


def test_an_answer_in_the_background_is_cancelled(client):
    answer = create(client, background=True, max_output_tokens=4000, extra_body={"ignore_eos": True})
    assert client.responses.cancel(answer.id).status == "cancelled"
    time.sleep(0.5)
    assert client.responses.retrieve(answer.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        create(client, previous_response_id=answer.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(create(client).id)


def begin_stream(client, count, **parameters):
    """Events of an answer in the background, whose client leaves after so many."""
    long = {"max_output_tokens": 400, "extra_body": {"ignore_eos": True}, **parameters}
    with create(client, background=True, stream=True, **long) as stream:
        events = [event for event, _ in zip(stream, range(count))]
    assert (events[0].type, events[0].response.status) == ("response.created", "in_progress")
    return events[0].response.id, events


def test_a_stream_in_the_background_is_taken_up_again(client):
    answer, seen = begin_stream(client, 8)
    rest = list(client.responses.retrieve(answer, stream=True, starting_after=seen[-1].sequence_number))
    events = seen + rest
    assert [event.sequence_number for event in events] == list(range(len(events)))
    final = client.responses.retrieve(answer)
    assert (rest[-1].type, rest[-1].response) == (f"response.{final.status}", final)
    assert final.usage.output_tokens == 400
    assert final.output_text == "".join(event.delta for event in events if event.type.endswith("text.delta"))
    # Also when all of it is over, and from any number on.
    assert list(client.responses.retrieve(answer, stream=True)) == events
    assert list(client.responses.retrieve(answer, stream=True, starting_after=events[-1].sequence_number)) == []
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.retrieve(create(client, background=True).id, stream=True)
    assert error.value.param == "stream"
    assert create(client, previous_response_id=answer, max_output_tokens=1).output_text


def test_a_cancelled_stream_in_the_background_ends(client):
    answer, seen = begin_stream(client, 8, max_output_tokens=4000)
    with client.responses.retrieve(answer, stream=True) as stream:
        assert [next(iter(stream)) for _ in seen] == seen
        cancelled = client.responses.cancel(answer)
        assert cancelled.status == "cancelled"
        last = list(stream)[-1]
    assert (last.type, last.response["status"]) == ("response.cancelled", "cancelled")
    assert list(client.responses.retrieve(answer, stream=True))[-1] == last


@pytest.mark.parametrize(
    "wrong, param",
    [
        ({"extra_body": {"foo": 1}}, "foo"),
        ({"temperature": 7}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"background": True, "store": False}, "background"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": ""}]}, "input[0].call_id"),
    ],
)
def test_what_is_wrong_is_named(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as error:
        create(client, **wrong)
    assert (error.value.type, error.value.param) == ("invalid_request_error", param)


def test_what_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError):
        create(client, model="none")
    assert httpx.get(f"{URL}/responses/resp_none").status_code == 404
    assert httpx.get(f"{URL}/responses").status_code == 405


def test_what_was_in_progress_when_the_server_stopped_has_failed(pie, tmp_path):
    # Answers are kept in a home that only one server has; what was compiled is taken along.
    cache = Path(pie.environment["PIE_HOME"]) / "cache"
    if cache.exists():
        shutil.copytree(cache, tmp_path / "cache")
    own = Pie(tmp_path)
    body = {"input": ASK, "background": True, "max_output_tokens": 4000, "ignore_eos": True}
    with own.serving(model=model_file()) as url:
        begun = httpx.post(f"{url}/v1/responses", json=body, timeout=60).json()
        assert httpx.get(f"{url}/v1/responses/{begun['id']}", timeout=60).json()["status"] == "in_progress"
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        streamed, seen = begin_stream(client, 8, max_output_tokens=4000)
    with own.serving(model=model_file()) as url:
        answer = httpx.get(f"{url}/v1/responses/{begun['id']}", timeout=60).json()
        assert answer["status"] == "failed" and "the server stopped" in answer["error"]["message"], answer
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        last = list(client.responses.retrieve(streamed, stream=True, starting_after=seen[-1].sequence_number))[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert "the server stopped" in last.response.error.message
