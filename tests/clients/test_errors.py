"""Requests that are wrong: a 4xx that names the parameter, soon, and the server goes on."""

import time

import openai
import pytest
import requests
from conftest import PATIENCE_S

CHAT, TEXT, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RERANK = "/v1/rerank"
MESSAGES = [{"role": "user", "content": "Hi"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "f"}}
# Settings of a chat, and the parameter that the error names.
WRONG_SETTINGS = [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": "Hi", "weight": 1}]}, "messages[0].weight"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 2}, "min_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": 1e300}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"frequency_penalty": 3}, "frequency_penalty"),
    ({"presence_penalty": -3}, "presence_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"seed": 2**70}, "seed"),
    ({"seed": 0.5}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"stop": 5}, "stop"),
    ({"stop": [5]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a"] * 1_000_000}, "stop"),
    ({"stop_token_ids": [2**31]}, "stop_token_ids"),
    ({"stop_token_ids": ["a"]}, "stop_token_ids"),
    ({"allowed_token_ids": []}, "allowed_token_ids"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "wat"}}}}, "response_format"),
    ({"structured_outputs": {}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"tools": 5}, "tools"),
    ({"tools": [{}]}, "tools[0].function"),
    ({"tools": [{"type": "retrieval", "function": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"thinking_token_budget": -2}, "thinking_token_budget"),
    ({"continue_final_message": 1}, "continue_final_message"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ({"chat_template_kwargs": 5}, "chat_template_kwargs"),
    ({"model": 5}, "model"),
    ({"user": "me", "functions": []}, "functions"),
    ({"web_search_options": {}}, "web_search_options"),
]


def check(status, answer, param, code=None):
    error = answer["error"]
    assert status == 400 and error["type"] == "invalid_request_error", answer
    assert error["param"] == param and (param is None or f"`{param}`" in error["message"]), answer
    assert code is None or error["code"] == code, answer


@pytest.mark.parametrize(("settings", "param"), WRONG_SETTINGS, ids=lambda value: str(value)[:50])
def test_a_wrong_setting_is_refused_by_its_name(post, settings, param):
    check(*post(CHAT, {"messages": MESSAGES, "max_tokens": 1, **settings}), param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (TEXT, {}, "prompt"),
        (TEXT, {"prompt": ""}, "prompt"),
        (TEXT, {"prompt": []}, "prompt"),
        (TEXT, {"prompt": [[]]}, "prompt"),
        (TEXT, {"prompt": 5}, "prompt"),
        (TEXT, {"prompt": [1, "a"]}, "prompt"),
        (TEXT, {"prompt": [2**40]}, "prompt"),
        (TEXT, {"prompt": ["a"] * 2049}, "prompt"),
        (TEXT, {"prompt": "a", "logprobs": 21}, "logprobs"),
        (TEXT, {"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
        (TEXT, {"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        (TEXT, {"prompt": "a", "prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        (TEXT, {"prompt": "a", "suffix": "b"}, "suffix"),
        (TEXT, {"prompt": "a", "echo": 1}, "echo"),
        (EMBEDDINGS, {}, "input"),
        (EMBEDDINGS, {"input": ""}, "input"),
        (EMBEDDINGS, {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        (EMBEDDINGS, {"input": "a", "dimensions": 3}, "dimensions"),
        (RERANK, {"documents": ["a"]}, "query"),
        (RERANK, {"query": "a"}, "documents"),
        (RERANK, {"query": "a", "documents": []}, "documents"),
        (RERANK, {"query": "a", "documents": "b"}, "documents"),
        (RERANK, {"query": "a", "documents": ["b"] * 1025}, "documents"),
        (RERANK, {"query": "a", "documents": ["b", {"image": "c"}]}, "documents[1].text"),
        (RERANK, {"query": "a", "documents": ["b"], "top_n": -1}, "top_n"),
        (RERANK, {"query": "a", "documents": ["b"], "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        (RERANK, {"query": "a", "documents": ["b"], "truncate_prompt_tokens": 5}, "query"),
        ("/score", {"text_1": "a"}, "text_2"),
        ("/score", {"queries": ["a", "b"], "items": ["c", "d", "e"]}, "items"),
        ("/v1/generate", {}, "prompt"),
        ("/v1/generate", {"prompt": ["a", "b"]}, "prompt"),
        ("/v1/generate", {"prompt": "a", "n": 2}, "n"),
        ("/infill", {"input_prefix": "a"}, "model"),
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": "a" * 10_000_000}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [2**31]}, "tokens"),
        ("/apply-template", {}, "messages"),
        ("/apply-template", {"messages": MESSAGES, "max_tokens": 5}, "max_tokens"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_other_routes_name_it_too(post, path, body, param):
    check(*post(path, body), param)


# Bodies, and the field in which they are wrong.
BODIES = [
    (b"", None),
    (b'{"messages": [{"role": "user", "content": "Hi"}', "messages"),
    (b"[]", None),
    (b"5", None),
    (b'{"messages": [], "temperature": NaN}', "temperature"),
    (b'{"messages": [], "temperature": Infinity}', "temperature"),
    (b'{"messages": [], "temperature": 1e999}', "temperature"),
    (rb'{"n": 1, "messages": [{"role": "user", "content": "\ud800"}]}', "messages"),
    (b'{"messages": [{"role": "user", "content": "\xff"}]}', "messages"),
    (b'{"messages": ' + b"[" * 100_000, "messages"),
    (b'{"messages": ' + b'{"a":' * 100_000, "messages"),
]


@pytest.mark.parametrize(("body", "param"), BODIES, ids=lambda value: str(value[:50]) if value else "")
@pytest.mark.parametrize("path", [CHAT, TEXT, EMBEDDINGS, RERANK, "/v1/generate", "/tokenize"])
def test_what_is_no_json_is_said_to_be_none(post, path, body, param):
    status, answer = post(path, body)
    check(status, answer, param)
    assert ("lone surrogate" in answer["error"]["message"]) == (rb"\ud800" in body)


@pytest.fixture(scope="module")
def too_long(client, model):
    """A text with a token more than the model's context, for each of its words."""
    return "word " * (client.models.retrieve(model).max_model_len + 1)


@pytest.mark.parametrize(("path", "field"), [(CHAT, "messages"), (TEXT, "prompt"), (EMBEDDINGS, "input")])
def test_a_prompt_beyond_the_context_has_its_code(post, too_long, path, field):
    # The second is longer than what the tokenizer takes at all.
    for text in (too_long, "word " * 2_000_000):
        given = [{"role": "user", "content": text}] if path == CHAT else text
        check(*post(path, {field: given}), field, "context_length_exceeded")


def test_a_body_of_100_mb_is_refused_before_it_is_read(post):
    start = time.monotonic()
    status, answer = post(CHAT, b'{"messages": "' + b"a" * 100_000_000 + b'"}')
    assert status == 413 and answer["error"]["type"] == "invalid_request_error"
    assert time.monotonic() - start < 10


def test_the_package_raises_what_it_documents(client, model, too_long):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=model, messages=MESSAGES, temperature=3)
    assert wrong.value.param == "temperature" and "3 is not from 0 to 2" in wrong.value.message
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.chat.completions.create(model=model, messages=MESSAGES, prediction={"type": "content", "content": "a"})
    assert unsupported.value.param == "prediction" and unsupported.value.code == "unsupported_parameter"
    # Before a stream begins, not within it.
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": too_long}], stream=True)
    assert long.value.code == "context_length_exceeded"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_wrong_method_is_405_and_an_unknown_path_404(url, method):
    assert requests.request(method, url + CHAT, timeout=PATIENCE_S).status_code == 405
    for path in (f"{CHAT}/more", "/v1/nothing", "/"):
        answer = requests.post(url + path, json={}, timeout=PATIENCE_S)
        assert answer.status_code == 404
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_errors_name_the_types_of_json_and_not_those_of_the_server(post):
    for name, value, expected in [
        ("messages", "Hi", "an array"),
        ("max_tokens", "many", "a whole number from 0"),
        ("stream", "yes", "a boolean"),
        ("temperature", "hot", "a number"),
        ("tools", {}, "an array"),
        ("logit_bias", [], "an object"),
        ("user", None, None),
    ]:
        status, answer = post(CHAT, {"messages": MESSAGES, "max_tokens": 1, name: value})
        assert (status == 200) == (expected is None), answer
        assert expected is None or f"expected {expected}" in answer["error"]["message"], answer
