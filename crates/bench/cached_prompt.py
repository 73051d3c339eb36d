"""What a cached prompt costs until its first token, and what drawing costs, of a server that speaks /v1/completions.

    pie serve --no-auth --model MODEL.gguf --threads 2 &
    python3 crates/bench/cached_prompt.py 8080

Answers are streamed. Of prompts of several lengths, each asked before: ms to the first event, and to the two after it, medians of 9.
Then ms of a step, greedy and with top-p 0.9 at temperature 1, medians of 252 gaps, nine rounds in turn.
"""

import http.client
import json
import statistics
import sys
import time

PORT = int(sys.argv[1])


def ask(prompt, tokens, **more):
    """When the request was sent, when each event came, and the last event, which has the usage."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    body = dict(prompt=prompt, max_tokens=tokens, stream=True, ignore_eos=True, **more)
    body["stream_options"] = {"include_usage": True}
    sent = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        sys.exit(f"{answer.status}: {answer.read().decode()}")
    events, last = [], b""
    for line in answer:
        if line.startswith(b"data: {"):
            events.append(time.perf_counter())
            last = line
    connection.close()
    return sent, events, json.loads(last[6:])["usage"]


for length in (1, 15, 16, 100, 500, 504, 510, 511, 512, 1000, 2000):
    prompt = [1000 + (i * 7) % 30000 for i in range(length)]
    for _ in range(2):
        ask(prompt, 4, temperature=0)
    runs = [ask(prompt, 8, temperature=0) for _ in range(9)]
    waits = [statistics.median(e[i] - (e[i - 1] if i else sent) for sent, e, _ in runs) * 1e3 for i in range(3)]
    cached = runs[-1][2]["prompt_tokens_details"]["cached_tokens"]
    print(f"{length} tokens, {cached} cached: first {waits[0]:.2f} ms, then {waits[1]:.2f} and {waits[2]:.2f}")

for _ in range(9):
    for name, more in (("greedy", dict(temperature=0)), ("top-p 0.9", dict(temperature=1, top_p=0.9))):
        gaps = []
        for _ in range(4):
            _, events, _ = ask("Once", 64, **more)
            events = events[:64]
            gaps += [b - a for a, b in zip(events, events[1:])]
        print(f"{name}: step {statistics.median(gaps) * 1e3:.2f} ms")
