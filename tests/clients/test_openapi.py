"""The document of the routes says what the server takes, and requests made from it are never answered with a 5xx.

PIE_CASES is about how many requests are generated, 300 where it is not set.
"""

import json
import os
import re

import pytest
import requests
import schemathesis
from conftest import PATIENCE_S, RETRIEVAL, ROOT
from hypothesis import HealthCheck, given, settings

MESSAGES = [{"role": "user", "content": "Hi"}]
# The smallest request of each schema of the document, and its path.
REQUESTS = {
    "ChatRequest": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1}),
    "CompletionRequest": ("/v1/completions", {"prompt": "Hi", "max_tokens": 1}),
    "EmbeddingRequest": ("/v1/embeddings", {"input": "Hi"}),
    "RerankRequest": ("/v1/rerank", {"query": "Hi", "documents": ["Hi"]}),
    "GenerateRequest": ("/v1/generate", {"prompt": "Hi", "max_tokens": 1}),
    "TokenizeText": ("/tokenize", {"prompt": "Hi"}),
    "TokenizeChat": ("/tokenize", {"messages": MESSAGES}),
    "DetokenizeRequest": ("/detokenize", {"tokens": [5]}),
    "TemplateRequest": ("/apply-template", {"messages": MESSAGES}),
}
# An answer that ends by itself.
SHORT = {"structured_outputs": {"choice": ["a"]}}
# Without these a parameter is refused for want of another one.
NEEDS = {
    "top_logprobs": {"logprobs": True},
    "stream_options": {"stream": True},
    "best_of": {"n": 1},
    "min_tokens": {"max_tokens": 2**32 - 1, **SHORT},
}
# Requests are made for these.
GENERATED = sorted(
    {path for path, _ in REQUESTS.values()} | {"/v1/responses", "/v1/messages", "/v1/score", "/infill"}
)
CASES = int(os.environ.get("PIE_CASES", "300"))
# The same requests each time, unless a number is asked for: then new ones.
GENERATION = settings(
    max_examples=max(1, CASES // (2 * len(GENERATED))),
    derandomize="PIE_CASES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def document(url):
    return requests.get(f"{url}/openapi.json", timeout=PATIENCE_S).json()


def resolved(document, schema):
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    return document["components"]["schemas"][name] if name else schema


def properties(document, request):
    own = document["components"]["schemas"][request]["properties"]
    return {name: resolved(document, schema) for name, schema in own.items()}


def refusal(post, request, name, value):
    """The error about a parameter with this value; none when it is taken."""
    path, body = REQUESTS[request]
    body = {**body, **NEEDS.get(name, {}), **(SHORT if name.startswith("max_") else {}), name: value}
    status, answer = post(path, body)
    assert status in (200, 400), answer
    return None if status == 200 else answer["error"]


# Paths of the server itself that are not for applications: docs/operating.md and docs/tracing.md have them. Sessions are
# a WebSocket, which docs/protocol.md describes.
OPERATORS = {"/health/live", "/health/ready", "/metrics", "/stats", "/debug/trace", "/dashboard", "/v1/session"}


def test_the_document_is_that_of_the_source_and_has_every_path(url, document, post):
    assert document == json.loads((ROOT / "sdk/openai/src/openapi.json").read_text())
    served = post("/no/such/path", {})[1]["error"]["message"].split("paths served: ")[1].split(", ")
    # A program answers what is below its path as well.
    documented = {max((s for s in served if path.startswith(s)), key=len) for path in document["paths"]}
    assert documented == set(served) - {RETRIEVAL.split("=")[0]} - OPERATORS


def test_the_page_has_every_parameter(document):
    page = (ROOT / "docs/serving.md").read_text()
    rows = [row.strip("|").split("|")[1:] for row in page.split("| for |")[1].split("\n\n")[0].splitlines()[2:]]
    # A value in parentheses is none.
    names = lambda cell: set(re.findall(r"(?<!\()`(\w+)`", cell))
    for column, request in enumerate(["ChatRequest", "CompletionRequest"]):
        cells = [row[0] if "the same" in row[column] else row[column] for row in rows]
        assert set().union(*map(names, cells)) == set(properties(document, request)), request
    for request in REQUESTS:
        missing = [name for name in properties(document, request) if f"`{name}`" not in page]
        assert not missing, request


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_parameter_is_read(document, post, request_name):
    for name, schema in properties(document, request_name).items():
        takes_all = not {"type", "enum", "anyOf"} & set(schema)
        wrong = 5.5 if "object" in schema.get("type", []) else {"not": "this"}
        error = refusal(post, request_name, name, wrong)
        if takes_all:
            assert error is None, f"{name}: {error}"
        else:
            assert error and error["param"].split(".")[0].split("[")[0] == name, f"{name}: {error}"
            assert error["message"] != f"`{name}`: is not supported", f"{name} is not read"
            is_required = name in document["components"]["schemas"][request_name]["required"]
            assert is_required or refusal(post, request_name, name, None) is None, f"{name}: null"
    unknown = refusal(post, request_name, "no_such_parameter", 1)
    assert unknown["code"] == "unsupported_parameter" and unknown["param"] == "no_such_parameter"


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_range_is_the_one_that_holds(document, post, request_name):
    for name, schema in properties(document, request_name).items():
        step = 1 if "integer" in schema.get("type", []) else 0.005
        for limit, beyond in (("minimum", -step), ("maximum", step)):
            if limit in schema:
                value = schema[limit]
                assert refusal(post, request_name, name, value) is None, f"{name}: {value}"
                error = refusal(post, request_name, name, value + beyond)
                assert error and error["param"] == name, f"{name}: {value + beyond}"
        for value in schema.get("enum", []):
            assert refusal(post, request_name, name, value) is None, f"{name}: {value}"


@pytest.fixture(scope="session")
def schema(url, document):
    made = schemathesis.openapi.from_dict(document)
    made.config.update(base_url=url)
    return made


# What says how much work a request asks for, and the parameter that bounds it where it says nothing.
WORK = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of")
LONG = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/generate": "max_tokens",
    "/v1/messages": "max_tokens",
    "/v1/responses": "max_output_tokens",
}


def shorten(path, body):
    """Leaves a request as it is but for the work it asks for, which may be that of hours."""
    if path not in LONG or not isinstance(body, dict):
        return
    for name in WORK:
        if isinstance(body.get(name), int) and body[name] > 3:
            body[name] = 3
    if all(body.get(name) is None for name in (LONG[path], "max_completion_tokens")):
        body[LONG[path]] = 3


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", GENERATED)
def test_no_generated_request_is_answered_with_a_server_error(schema, path, mode):
    @given(case=schema[path]["POST"].as_strategy(generation_mode=mode))
    @GENERATION
    def check(case):
        shorten(path, case.body)
        response = case.call(timeout=PATIENCE_S)
        assert response.status_code < 500, f"{case.as_curl_command()}\n{response.text}"
        if response.status_code >= 400:
            assert response.json()["error"]["message"], case.as_curl_command()

    check()
