"""Two users on one server: what one has, the other cannot see, list or time."""

import random
import statistics
import time

import pytest
import requests

from conftest import PATIENCE_S, Pie, model_file


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The address of a server, and the keys of two users."""
    home = Pie(tmp_path_factory.mktemp("two"))
    keys = [home.add_key("ann"), home.add_key("bob")]
    with home.serving(model=model_file(), keys=True) as url:
        yield url, *keys


def call(method, url, key, body=None):
    return requests.request(
        method, url, json=body, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S
    )


def test_a_response_is_there_for_its_user_only(two):
    url, ann, bob = two
    made = call("POST", f"{url}/v1/responses", ann, {"input": "Hello", "max_output_tokens": 16}).json()
    path = f"{url}/v1/responses/{made['id']}"
    assert call("GET", path, ann).status_code == 200
    for method, end in [("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")]:
        assert call(method, path + end, bob).status_code == 404, (method, end)
    follow = {"input": "And?", "previous_response_id": made["id"], "max_output_tokens": 16}
    refused = call("POST", f"{url}/v1/responses", bob, follow)
    assert refused.status_code == 400 and made["id"] in refused.json()["error"]["message"], refused.text
    assert call("POST", f"{url}/v1/responses", ann, follow).status_code == 200


def prompt(seed):
    """Text of some hundred tokens that no other prompt begins like, but for some digits."""
    words = random.Random(seed)
    return " ".join(str(words.randrange(10_000)) for _ in range(120))


def completion(url, key, prompt):
    """Seconds of a request, and the tokens of its prompt that were in the cache."""
    start = time.perf_counter()
    answer = call("POST", f"{url}/v1/completions", key, {"prompt": prompt, "max_tokens": 1})
    elapsed = time.perf_counter() - start
    assert answer.status_code == 200, answer.text
    return elapsed, answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def ids(seed):
    """Some hundred tokens, of which no other prompt has the first."""
    numbers = random.Random(seed)
    return [2000 + seed] + [numbers.randrange(100, 40_000) for _ in range(200)]


def test_a_prefix_of_another_user_is_not_in_the_cache_and_not_in_the_time(two):
    """Prompts that the other user has asked take as long as those that nobody has: a permutation test on the means of
    24 each, in turn. One's own are in the cache, and so much faster that the same test tells them apart."""
    url, ann, bob = two
    number = 24
    for at in range(number):
        completion(url, ann, ids(at))
    of_ann, of_nobody, own = [], [], []
    for at in range(number):
        for seed, times in [(at, of_ann), (1000 + at, of_nobody)]:
            elapsed, cached = completion(url, bob, ids(seed))
            assert cached == 0, "nothing of it was computed for this user"
            times.append(elapsed)
        elapsed, cached = completion(url, bob, ids(at))
        assert cached > 100
        own.append(elapsed)
    assert chance(own, of_nobody) < 0.001, "the test is able to tell"
    assert chance(of_ann, of_nobody) > 0.001, (statistics.median(of_ann), statistics.median(of_nobody))


def test_salts_part_what_one_user_has_in_the_cache(two):
    url, ann, _ = two

    def cached(path, body):
        answer = call("POST", url + path, ann, body)
        assert answer.status_code == 200, answer.text
        usage = answer.json()["usage"]
        return (usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))["cached_tokens"]

    for path, body in [
        ("/v1/completions", {"prompt": prompt(7000), "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt(7001)}], "max_tokens": 1}),
        ("/v1/responses", {"input": prompt(7002), "max_output_tokens": 16, "store": False}),
    ]:
        assert cached(path, body) < 50, "only the beginning of a template is known"
        assert cached(path, body) > 100
        one, other = body | {"cache_salt": f"one{path}"}, body | {"cache_salt": f"other{path}"}
        assert cached(path, one) == 0
        assert cached(path, other) == 0
        assert cached(path, one) > 100
    for wrong in ["", "a" * 2000, 7]:
        answer = call("POST", f"{url}/v1/completions", ann, {"prompt": "a", "cache_salt": wrong})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "cache_salt", answer.text


def chance(one, other):
    """How often a random split of all times has means as far apart as these two."""
    distance = abs(statistics.mean(one) - statistics.mean(other))
    all_times, shuffle = one + other, random.Random(7).shuffle
    further = 0
    for _ in range(5000):
        shuffle(all_times)
        first, second = all_times[: len(one)], all_times[len(one) :]
        further += abs(statistics.mean(first) - statistics.mean(second)) >= distance
    return further / 5000


def test_one_user_cannot_exhaust_what_another_has(two):
    """With all places that one user may have taken, the other is answered."""
    url, ann, bob = two
    endless = {"prompt": "one two", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    headers = {"authorization": f"Bearer {ann}"}
    streams = [
        requests.post(f"{url}/v1/completions", json=endless, headers=headers, stream=True, timeout=PATIENCE_S)
        for _ in range(48)
    ]
    try:
        _, cached = completion(url, bob, prompt(5000))
        assert cached == 0
        # The store is full for one, and not for the other: each has so many responses of its own.
        made = call("POST", f"{url}/v1/responses", bob, {"input": "Hello", "max_output_tokens": 16})
        assert made.status_code == 200
    finally:
        for stream in streams:
            stream.close()
