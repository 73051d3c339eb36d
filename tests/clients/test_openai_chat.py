"""The `openai` package: models, and conversations."""

import math

import openai
import pytest
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# Its answer is longer than the tests let it be.
STORY = [{"role": "user", "content": "Tell me a long story about a fox."}]


@pytest.fixture
def chat(client, model):
    """Asks with settings; greedy and short where they say nothing else."""

    def create(messages=STORY, **settings):
        settings = {"temperature": 0, "max_tokens": 12, **settings}
        return client.chat.completions.create(model=model, messages=messages, **settings)

    return create


def text(answer, choice=0):
    return answer.choices[choice].message.content


def streamed(chunks):
    """Text, reason, and usage of a stream of one choice."""
    content, reason, usage = "", None, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return content, reason, usage


def test_the_models_are_listed_and_found(client, model):
    found = client.models.retrieve(model)
    assert found.id == model and found.object == "model" and found.max_model_len > 0
    assert found in client.models.list().data


def test_an_answer_has_its_parts(chat, model):
    answer = chat()
    assert answer.object == "chat.completion" and answer.model == model and answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.role == "assistant" and text(answer)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12


def test_a_stream_is_the_same_answer(chat):
    whole = chat()
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    content, reason, usage = streamed(chunks)
    assert (content, reason) == (text(whole), whole.choices[0].finish_reason)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) > 5, "in pieces"
    assert not any(chunk.usage for chunk in chat(stream=True)), "usage comes only where it is asked for"


def test_each_event_says_what_its_answer_has_cost_so_far(chat):
    each = {"include_usage": True, "continuous_usage_stats": True}
    *events, last = chat(n=2, temperature=1, seed=3, stream=True, stream_options=each)
    of_choice = {0: [], 1: []}
    for event in events:
        assert event.usage.prompt_tokens == last.usage.prompt_tokens
        assert event.usage.total_tokens == event.usage.prompt_tokens + event.usage.completion_tokens
        of_choice[event.choices[0].index].append(event.usage.completion_tokens)
    for counts in of_choice.values():
        assert counts[0] == 0 and counts == sorted(counts) and len(set(counts)) > 3
    assert sum(counts[-1] for counts in of_choice.values()) == last.usage.completion_tokens
    only_each = chat(stream=True, stream_options={"continuous_usage_stats": True})
    assert not any(event.usage for event in only_each), "without the one the other has no effect"


def test_several_answers_differ_and_the_first_is_that_of_one(chat):
    several = chat(n=3, temperature=1, seed=11)
    texts = [text(several, at) for at in range(3)]
    assert len(set(texts)) == 3 and [choice.index for choice in several.choices] == [0, 1, 2]
    assert text(chat(temperature=1, seed=11)) == texts[0]
    of_stream = {0: "", 1: "", 2: ""}
    for chunk in chat(n=3, temperature=1, seed=11, stream=True):
        of_stream[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(of_stream.values()) == texts


def test_a_seed_repeats_and_another_one_differs(chat):
    first, second, other = (text(chat(temperature=1, seed=seed)) for seed in (5, 5, 6))
    assert first == second != other


def test_log_probabilities_are_those_of_the_text(chat):
    content = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert len(content) == 12
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token, "greedy takes the most probable"
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1.001
    assert b"".join(bytes(token.bytes) for token in content).decode() == text(chat())
    assert chat(logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    assert chat().choices[0].logprobs is None
    chunks = chat(logprobs=True, top_logprobs=3, stream=True)
    parts = [part.logprobs.content for chunk in chunks for part in chunk.choices if part.logprobs]
    assert [token for part in parts for token in part] == content


def test_a_stop_text_ends_before_itself(chat):
    whole = text(chat())
    stop = whole[4:7]
    answer = chat(stop=[stop, "never said"])
    assert text(answer) == whole.split(stop)[0] and answer.choices[0].finish_reason == "stop"
    assert streamed(chat(stop=stop, stream=True))[0] == text(answer)


def test_a_bias_forbids_and_forces(chat, post, model):
    (token,) = post("/tokenize", {"model": model, "prompt": " Paris", "add_special_tokens": False})[1]["tokens"]
    assert text(chat(logit_bias={token: 100}, max_tokens=3)) == " Paris" * 3
    first = lambda **settings: chat(logprobs=True, max_tokens=1, **settings).choices[0].logprobs.content[0].token
    (forbidden,) = post("/tokenize", {"prompt": first(), "add_special_tokens": False})[1]["tokens"]
    assert first(logit_bias={forbidden: -100}) != first()


def test_an_answer_ends_no_earlier_than_it_may(chat):
    short = [{"role": "user", "content": "Say hello."}]
    free = chat(short, max_tokens=60)
    assert free.choices[0].finish_reason == "stop" and free.usage.completion_tokens < 60
    least = free.usage.completion_tokens + 5
    longer = chat(short, max_tokens=90, extra_body={"min_tokens": least})
    assert longer.usage.completion_tokens >= least
    endless = chat(short, max_tokens=60, extra_body={"ignore_eos": True})
    assert endless.usage.completion_tokens == 60 and endless.choices[0].finish_reason == "length"


def test_max_completion_tokens_is_the_newer_name(chat):
    assert chat(max_tokens=None, max_completion_tokens=5).usage.completion_tokens == 5


def test_content_parts_and_developer_messages_are_read(chat):
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello\nthere"}]
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]
    other = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    assert text(chat(other)) == text(chat(plain))


class City(BaseModel):
    name: str
    country: str
    inhabitants: int


def test_a_structured_answer_is_parsed(client, model):
    settings = {"response_format": City, "max_tokens": 300, "temperature": 0}
    answer = client.chat.completions.parse(model=model, messages=QUESTION, **settings)
    assert isinstance(answer.choices[0].message.parsed, City) and answer.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model=model, messages=QUESTION, **settings) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed == answer.choices[0].message.parsed


def test_a_json_object_begins_as_one(chat):
    assert text(chat(response_format={"type": "json_object"})).startswith("{")


def test_a_choice_of_vllm_is_taken(chat):
    answer = chat(extra_body={"structured_outputs": {"choice": ["Lyon", "Paris"]}})
    assert text(answer) in ("Lyon", "Paris") and answer.choices[0].finish_reason == "stop"


def test_an_async_client_gets_the_same(client, chat, model):
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=str(client.base_url), api_key="none") as other:
            return await asyncio.gather(*(
                other.chat.completions.create(model=model, messages=STORY, temperature=0, max_tokens=12)
                for _ in range(8)
            ))

    assert {text(answer) for answer in asyncio.run(ask())} == {text(chat())}


def test_the_last_message_is_continued_with_what_is_new(client, model, post):
    asked = [{"role": "user", "content": "Count to ten."}]
    settings = {"model": model, "temperature": 0, "max_tokens": 12}
    whole = client.chat.completions.create(messages=asked, **settings).choices[0].message.content
    begun = whole[: len(whole) // 2].rstrip()
    messages = [*asked, {"role": "assistant", "content": begun}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    rest = client.chat.completions.create(messages=messages, extra_body=options, **settings)
    assert not rest.choices[0].message.content.startswith(begun)
    prompt = post("/apply-template", {"messages": messages, **options})[1]["prompt"]
    assert prompt.endswith(begun)
    assert post("/tokenize", {"messages": messages, **options})[1]["count"] == rest.usage.prompt_tokens
    tokens = post("/tokenize", {"messages": messages, **options})[1]["tokens"]
    completion = client.completions.create(prompt=tokens, **settings)
    assert completion.choices[0].text == rest.choices[0].message.content
