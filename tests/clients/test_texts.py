"""`/v1/rerank`, `/score`, `/v1/generate`, `/infill`, as scripts and editors ask them.

A small model's scores say little, so the tests hold it to what must be equal and in order.
"""

import json
import os
from pathlib import Path

import pytest
import requests
from conftest import PATIENCE_S

QUERY = "What is the capital of France?"
DOCUMENTS = ["Horses and cows are animals.", {"text": "The capital of France is Paris."}, "Rain."]
CODER = "qwen2.5-coder-0.5b-q4_k_m.gguf"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_come_in_the_order_of_their_scores(post, model, path):
    status, answer = post(path, {"model": model, "query": QUERY, "documents": DOCUMENTS})
    assert status == 200 and answer["model"] == model, answer
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2]
    for result in answer["results"]:
        document = DOCUMENTS[result["index"]]
        assert result["document"]["text"] == (document if isinstance(document, str) else document["text"])
    best = post(path, {"query": QUERY, "documents": DOCUMENTS, "top_n": 1, "return_documents": False})[1]
    assert best["results"] == [{key: answer["results"][0][key] for key in ("index", "relevance_score")}]


def test_a_score_does_not_depend_on_the_other_documents_and_the_query_counts_once(post):
    together = post("/rerank", {"query": QUERY, "documents": DOCUMENTS})[1]
    alone = [post("/rerank", {"query": QUERY, "documents": [document]})[1] for document in DOCUMENTS]
    for result in together["results"]:
        assert result["relevance_score"] == alone[result["index"]]["results"][0]["relevance_score"]
    assert together["usage"]["total_tokens"] < sum(answer["usage"]["total_tokens"] for answer in alone)
    scores = post("/score", {"text_1": QUERY, "text_2": DOCUMENTS})[1]
    pairs = post("/v1/score", {"queries": [QUERY] * 3, "items": DOCUMENTS})[1]
    assert scores["data"] == pairs["data"] and scores["usage"] == pairs["usage"]
    assert [entry["score"] for entry in scores["data"]] == [
        answer["results"][0]["relevance_score"] for answer in alone
    ]


def test_a_document_is_cut_only_if_asked(post, client, model):
    body = {"query": QUERY, "documents": ["Rain.", "word " * (client.models.retrieve(model).max_model_len + 1)]}
    status, answer = post("/rerank", body)
    assert status == 400 and answer["error"]["param"] == "documents[1]", answer
    assert answer["error"]["code"] == "context_length_exceeded"
    status, answer = post("/rerank", {**body, "truncate_prompt_tokens": 200})
    assert status == 200 and 200 < answer["usage"]["total_tokens"] < 300, answer


def test_a_generated_text_is_that_of_the_completion(url, post, client, model):
    settings = {"max_tokens": 12, "temperature": 0.7, "seed": 3, "stop": "zzz"}
    completion = client.completions.create(model=model, prompt="Once upon a time", **settings)
    status, answer = post("/v1/generate", {"prompt": "Once upon a time", **settings})
    assert status == 200 and answer["text"] == completion.choices[0].text, answer
    assert answer["usage"]["completion_tokens"] == completion.usage.completion_tokens
    body = {"prompt": "Once upon a time", "stream": True, **settings}
    events = requests.post(f"{url}/v1/generate", json=body, timeout=PATIENCE_S).text.split("\n\n")
    assert events[-2] == "data: [DONE]"
    pieces = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(piece["text"] for piece in pieces) == answer["text"]
    assert pieces[-1]["finish_reason"] == answer["finish_reason"] and pieces[-1]["usage"]["total_tokens"] > 0


def test_a_model_that_cannot_fill_in_says_so(post, model):
    status, answer = post("/infill", {"input_prefix": "def f():"})
    assert status == 400 and answer["error"]["param"] == "model" and model in answer["error"]["message"], answer


def test_a_model_that_can_fills_the_gap(pie):
    coder = Path(os.environ["PIE_TEST_MODELS"]) / CODER
    if not coder.exists():
        pytest.skip(f"PIE_TEST_MODELS has no {CODER}")
    with pie.serving(model=coder) as url:
        # llama.cpp's server fills it the same way with this model.
        prefix = "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + "
        body = {"input_prefix": prefix, "input_suffix": "\n"}
        body |= {"temperature": 0, "n_predict": 16, "cache_prompt": True, "samplers": ["top_k"]}
        answer = requests.post(f"{url}/infill", json=body, timeout=PATIENCE_S).json()
        assert answer["content"].startswith("fibonacci(n - 2)") and answer["stop"], answer
        text = requests.post(f"{url}/infill", json={**body, "stream": True}, timeout=PATIENCE_S).text
        events = [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n") if event]
        assert "".join(event["content"] for event in events) == answer["content"]
        assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
