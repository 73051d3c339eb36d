"""`/tokenize`, `/detokenize`, `/apply-template`, as a script calls them; and the same text from every way in."""

import pytest
import requests
from conftest import ROOT, model_file

TEXTS = ["Hello, world!", "  two  spaces\n\tand a tab", "Straße, naïve, 東京, 🦜 and \u200d joined", "<|im_end|> is a token"]
CHAT = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_from_its_tokens(post, text):
    status, answer = post("/tokenize", {"prompt": text, "add_special_tokens": False, "return_token_strs": True})
    assert status == 200 and answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert post("/detokenize", {"tokens": answer["tokens"]}) == (200, {"prompt": text})


def test_a_template_shows_the_prompt_that_is_counted(post, client, model):
    prompt = post("/apply-template", {"messages": CHAT})[1]["prompt"]
    assert CHAT[0]["content"] in prompt and "assistant" in prompt.rsplit(CHAT[0]["content"])[-1]
    tokens = post("/tokenize", {"messages": CHAT})[1]["tokens"]
    assert post("/detokenize", {"tokens": tokens})[1]["prompt"] == prompt
    answer = client.chat.completions.create(model=model, messages=CHAT, max_tokens=1)
    assert answer.usage.prompt_tokens == len(tokens)
    without = post("/apply-template", {"messages": CHAT, "add_generation_prompt": False})[1]["prompt"]
    assert prompt.startswith(without) and prompt != without


def test_an_answer_is_the_completion_of_its_prompt(post, client, model):
    tokens = post("/tokenize", {"messages": CHAT})[1]["tokens"]
    settings = {"model": model, "max_tokens": 24, "temperature": 0.8, "seed": 4}
    chat = client.chat.completions.create(messages=CHAT, **settings)
    completion = client.completions.create(prompt=tokens, **settings)
    assert completion.choices[0].text == chat.choices[0].message.content


def test_a_prompt_that_an_application_has_made_is_that_of_the_messages(post, client, model):
    """As by vLLM and llama.cpp: the markup of a template counts where the application writes the whole prompt."""
    prompt = post("/apply-template", {"messages": CHAT})[1]["prompt"]
    tokens = post("/tokenize", {"messages": CHAT})[1]["tokens"]
    for with_first in (True, False):
        counted = post("/tokenize", {"prompt": prompt, "add_special_tokens": with_first})[1]["tokens"]
        assert counted == tokens, with_first
    settings = {"model": model, "max_tokens": 24, "temperature": 0}
    chat = client.chat.completions.create(messages=CHAT, **settings)
    completion = client.completions.create(prompt=prompt, **settings)
    assert completion.usage.prompt_tokens == len(tokens)
    assert completion.choices[0].text == chat.choices[0].message.content
    status, generated = post("/v1/generate", {"prompt": prompt, "max_tokens": 24, "temperature": 0})
    assert (status, generated["text"]) == (200, completion.choices[0].text)
    assert completion.choices[0].text


def test_markup_in_a_message_or_a_document_marks_nothing(post, model):
    assert post("/tokenize", {"prompt": "<|im_end|>", "add_special_tokens": False})[1]["count"] == 1
    plain = post("/tokenize", {"messages": [{"role": "user", "content": "<|im_end|>"}]})[1]["count"]
    without = post("/tokenize", {"messages": [{"role": "user", "content": ""}]})[1]["count"]
    assert plain - without > 1
    usage = post("/v1/embeddings", {"model": model, "input": "<|im_end|>"})[1]["usage"]
    assert usage["prompt_tokens"] > 1


@pytest.mark.parametrize("temperature", ["0", "0.8"])
def test_a_program_says_the_same_as_the_api(pie, client, model, temperature):
    asked, system = CHAT[0]["content"], "You are a helpful assistant."
    options = ["--prompt", asked, "--system", system, "--max-tokens", "24", "--temperature", temperature, "--seed", "9"]
    said = pie.run("run", "--model", str(model_file()), "text-completion", "--", *options)
    messages = [{"role": "system", "content": system}, *CHAT]
    answer = client.chat.completions.create(
        model=model, messages=messages, max_tokens=24, temperature=float(temperature), seed=9
    )
    assert said.startswith(answer.choices[0].message.content + "\n(24 tokens")


def test_a_program_of_ones_own_answers_with_what_it_retrieves(url, model):
    def tokens_of_prompt(path, question):
        body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": question}]}
        answer = requests.post(url + path, json=body, timeout=60)
        if path.startswith("/retrieval") and answer.status_code == 404:
            pytest.skip("the server has no api-retrieval")
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"]["prompt_tokens"]

    known, unknown = "How high is the lighthouse of Morvane?", "What did nobody write down?"
    assert tokens_of_prompt("/retrieval/chat/completions", unknown) == tokens_of_prompt("/v1/chat/completions", unknown)
    more = tokens_of_prompt("/retrieval/chat/completions", known) - tokens_of_prompt("/v1/chat/completions", known)
    assert more > 20, "the paragraph is in the prompt"


def test_the_page_shows_that_program_whole():
    source = (ROOT / "inferlets/api-retrieval/src/lib.rs").read_text()
    _, code = source.split("\n\n", 1)
    assert code in (ROOT / "docs/serving.md").read_text()
