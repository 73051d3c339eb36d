"""The `openai` package: continuations of texts, and vectors of them."""

import numpy
import pytest

PROMPT = "The capital of France is"
OTHER = "The opposite of hot is"


@pytest.fixture
def complete(client, model):
    def create(prompt=PROMPT, **settings):
        settings = {"temperature": 0, "max_tokens": 6, **settings}
        return client.completions.create(model=model, prompt=prompt, **settings)

    return create


@pytest.fixture
def tokens(post, model):
    return lambda text: post("/tokenize", {"model": model, "prompt": text})[1]["tokens"]


def texts(answer):
    return [choice.text for choice in answer.choices]


def test_texts_and_their_tokens_are_continued_alike(complete, tokens):
    one, other = texts(complete())[0], texts(complete(OTHER))[0]
    assert one.startswith(" Paris") and one != other
    assert texts(complete([PROMPT, OTHER])) == [one, other]
    assert texts(complete(tokens(PROMPT))) == [one]
    both = complete([tokens(PROMPT), tokens(OTHER)])
    assert texts(both) == [one, other]
    assert both.usage.prompt_tokens == len(tokens(PROMPT)) + len(tokens(OTHER))
    assert both.usage.completion_tokens == 12


def test_a_stream_is_the_same_text(complete):
    whole = complete()
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == texts(whole)[0]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 6
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_each_event_says_what_its_text_has_cost_so_far(complete, tokens):
    each = {"include_usage": True, "continuous_usage_stats": True}
    *events, last = complete([PROMPT, OTHER], stream=True, stream_options=each)
    for index, prompt in enumerate([PROMPT, OTHER]):
        of_choice = [event.usage for event in events if event.choices[0].index == index]
        counts = [usage.completion_tokens for usage in of_choice]
        assert counts == sorted(counts) and counts[0] <= 2 and counts[-1] == 6
        assert {usage.prompt_tokens for usage in of_choice} == {len(tokens(prompt))}
    assert last.usage.completion_tokens == 12


def test_the_prompt_is_repeated_with_its_log_probabilities(complete, tokens):
    echoed = complete(echo=True, logprobs=2).choices[0]
    assert echoed.text == PROMPT + texts(complete())[0]
    known = echoed.logprobs
    assert "".join(known.tokens) == echoed.text and len(known.tokens) == len(tokens(PROMPT)) + 6
    assert known.token_logprobs[0] is None and all(value <= 0 for value in known.token_logprobs[1:])
    for token, value, top in list(zip(known.tokens, known.token_logprobs, known.top_logprobs))[1:]:
        assert top[token] == value and len(top) in (2, 3), "those asked for, and the token itself"
    assert known.text_offset == [len("".join(known.tokens[:at])) for at in range(len(known.tokens))]
    # The prompt alone: what programs that grade texts ask for.
    alone = complete(echo=True, logprobs=2, max_tokens=0).choices[0]
    assert alone.text == PROMPT
    assert alone.logprobs.token_logprobs == known.token_logprobs[: len(tokens(PROMPT))]


def test_offsets_are_those_of_the_text_where_tokens_are_parts_of_characters(complete):
    text = "A 🦜 says naïve 東京 words"
    known = complete(text, echo=True, logprobs=0, max_tokens=0).choices[0].logprobs
    parts = [token for token in known.tokens if token.startswith("bytes:")]
    assert parts, "a character is in two tokens"
    named = b"".join(bytes.fromhex(part.removeprefix("bytes:").replace("\\x", "")) for part in parts)
    assert "🦜".encode() in named and "\ufffd" not in "".join(known.tokens)
    whole = [(token, at) for token, at in zip(known.tokens, known.text_offset) if token not in parts]
    assert len(whole) > 4 and all(text[at:].startswith(token) for token, at in whole)


@pytest.mark.parametrize("n", [1, 2])
def test_log_probabilities_of_the_prompt_come_beside_each_answer(complete, tokens, n):
    ids = tokens(PROMPT)
    answer = complete(n=n, extra_body={"prompt_logprobs": 1})
    expected = complete(echo=True, logprobs=1, max_tokens=0).choices[0].logprobs.token_logprobs
    for choice in answer.choices:
        first, *others = choice.prompt_logprobs
        assert first is None and len(others) == len(ids) - 1
        assert [known[str(id)]["logprob"] for id, known in zip(ids[1:], others)] == expected[1:]


def test_several_answers_to_each_prompt_are_in_order(complete):
    answer = complete([PROMPT, OTHER], n=2, temperature=1, seed=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert texts(answer)[:2] == texts(complete(n=2, temperature=1, seed=3))
    of_stream = [""] * 4
    for chunk in complete([PROMPT, OTHER], n=2, temperature=1, seed=3, stream=True):
        of_stream[chunk.choices[0].index] += chunk.choices[0].text
    assert of_stream == texts(answer)


def test_the_best_is_the_most_probable(complete):
    several = complete(n=4, temperature=1, seed=8, logprobs=0)
    sums = {choice.text: sum(choice.logprobs.token_logprobs) for choice in several.choices}
    best = complete(n=1, best_of=4, temperature=1, seed=8, logprobs=0)
    assert texts(best) == [max(sums, key=sums.get)]


def test_vectors_are_of_length_one_and_equal_however_they_are_asked_for(client, model, tokens):
    def embed(given, **settings):
        # The client asks for base64 where nothing is said, and decodes it.
        answer = client.embeddings.create(model=model, input=given, **settings)
        assert [item.index for item in answer.data] == list(range(len(answer.data)))
        return numpy.array([item.embedding for item in answer.data], dtype=numpy.float32)

    one, other = embed(PROMPT), embed(OTHER)
    assert abs(numpy.linalg.norm(one) - 1) < 1e-5 and not numpy.allclose(one, other, atol=1e-2)
    for same in (embed(PROMPT, encoding_format="float"), embed(tokens(PROMPT)), embed([PROMPT])):
        assert numpy.array_equal(same, one)
    both = numpy.concatenate([one, other])
    assert numpy.array_equal(embed([PROMPT, OTHER]), both)
    assert numpy.array_equal(embed([tokens(PROMPT), tokens(OTHER)]), both)


def test_a_text_is_nearer_to_one_of_its_kind(client, model):
    given = ["The cat sat on the mat.", "A cat is sitting on a mat.", "SELECT name FROM users WHERE id = 7;"]
    vectors = [item.embedding for item in client.embeddings.create(model=model, input=given).data]
    assert numpy.dot(vectors[0], vectors[1]) > numpy.dot(vectors[0], vectors[2])
