"""What a server tells of itself, after requests that are known: the page as Prometheus' own parsers read it."""

import json
import subprocess
import time

import pytest
import requests
from conftest import PATIENCE_S, model_file
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TOKENS = 7
# Longer than a page of 16 tokens.
PROMPTS = [f"{number}. The quick brown fox jumps over the lazy dog, and then it goes home to sleep." for number in range(3)]


def numbers(url, read=read_text, accept="text/plain"):
    """The number of each sample by its name and labels."""
    page = requests.get(f"{url}/metrics", headers={"accept": accept}, timeout=PATIENCE_S)
    assert page.status_code == 200
    kind = OPEN_METRICS if read is read_open_metrics else "text/plain; version=0.0.4; charset=utf-8"
    assert page.headers["content-type"] == kind
    samples = [sample for family in read(page.text) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "no sample is there twice"
    return found


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def wait_until_idle(url):
    """An inferlet is counted when it has ended, which is a little after its answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = numbers(url)
        busy = ["pie_inferlets_running", "pie_inferlets_waiting"]
        if not any(number for (name, _), number in found.items() if name in busy):
            return found
        time.sleep(0.05)
    raise TimeoutError("inferlets still run")


@pytest.fixture(scope="module")
def used(pie):
    """A server that has answered what is known, its numbers then, and what the answers said."""
    with pie.serving(model=model_file()) as url:
        before = numbers(url)
        assert not [key for key in before if key[0] == "pie_inferlet_launches_total"]
        usages = []
        for prompt in [*PROMPTS, PROMPTS[0]]:
            body = {"prompt": prompt, "max_tokens": TOKENS, "ignore_eos": True, "temperature": 0}
            answer = requests.post(f"{url}/v1/completions", json=body, timeout=PATIENCE_S)
            assert answer.status_code == 200
            usages.append(answer.json()["usage"])
        assert requests.post(f"{url}/v1/completions", json={"max_tokens": -1}, timeout=PATIENCE_S).status_code == 400
        for path in ["/nowhere", "/nowhere/else?x=1"]:
            assert requests.get(url + path, timeout=PATIENCE_S).status_code == 404
        yield url, wait_until_idle(url), usages


def test_tokens_and_times_are_those_of_the_requests(used):
    _, found, usages = used
    (model,) = {dict(labels)["model"] for name, labels in found if name == "pie_engine_up"}
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    assert sum(usage["completion_tokens"] for usage in usages) == 4 * TOKENS
    of = {"model": model}
    assert value(found, "pie_generated_tokens_total", **of) == 4 * TOKENS
    assert value(found, "pie_prompt_tokens_total", **of) == prompt
    assert value(found, "pie_time_to_first_token_seconds_count", **of) == 4
    assert value(found, "pie_inter_token_latency_seconds_count", **of) == 4 * (TOKENS - 1)
    assert value(found, "pie_inferlet_latency_seconds_count", **of) == 4
    first, whole = (value(found, f"pie_{name}_seconds_sum", **of) for name in ["time_to_first_token", "inferlet_latency"])
    between = value(found, "pie_inter_token_latency_seconds_sum", **of)
    assert 0 < first < first + between <= whole < PATIENCE_S
    # The prompt that came twice, and what others began alike.
    of_each = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    assert of_each[-1] == usages[-1]["prompt_tokens"] - 1, "one row is computed anew"
    cached = sum(of_each)
    assert value(found, "pie_prefix_found_tokens_total", **of) == cached
    assert value(found, "pie_prefix_asked_tokens_total", **of) >= prompt
    rows = value(found, "pie_rows_total", source="computed", **of)
    assert rows == prompt - cached + 4 * (TOKENS - 1), "the last token drawn is not computed"
    assert value(found, "pie_batch_rows_sum", **of) == rows
    steps = value(found, "pie_engine_step_seconds_count", **of)
    assert steps == value(found, "pie_batches_total", outcome="completed", **of) >= TOKENS
    assert (value(found, "pie_passes_running", **of), value(found, "pie_passes_waiting", **of)) == (0, 0)


def test_pages_are_all_there(used):
    _, found, _ = used
    (model,) = {dict(labels)["model"] for name, labels in found if name == "pie_engine_up"}
    states = {state: value(found, "pie_kv_pages", model=model, state=state) for state in ["free", "used", "cached"]}
    assert sum(states.values()) == value(found, "pie_kv_pages_pool", model=model) > 0
    assert states["used"] == 0 and states["cached"] >= 3 and value(found, "pie_contexts", model=model) == 0


def test_requests_are_counted_by_the_mount_and_status(used):
    _, found, _ = used
    requests_of = {
        labels: number for (name, labels), number in found.items() if name == "pie_http_requests_total"
    }
    counts = {(dict(labels)["route"], dict(labels)["status"]): number for labels, number in requests_of.items()}
    assert counts["/v1/completions", "200"] == 4
    assert counts["/v1/completions", "400"] == 1
    assert counts["none", "404"] == 2
    assert {route for route, _ in counts} <= {"/v1/completions", "/health", "/metrics", "none"}
    assert value(found, "pie_http_request_seconds_count", route="/v1/completions") == 5
    # The request for the page itself.
    assert value(found, "pie_http_requests_running") == 1
    assert value(found, "pie_http_connections") >= 1
    assert value(found, "process_resident_memory_bytes") > 10 << 20


def test_programs_are_counted_by_their_ends(used):
    _, found, _ = used
    of = {"program": "api-completions"}
    assert value(found, "pie_inferlet_launches_total", **of) == 5
    ends = {outcome: value(found, "pie_inferlet_ends_total", outcome=outcome, **of) for outcome in ["ok", "trap", "killed"]}
    assert ends == {"ok": 5, "trap": 0, "killed": 0}
    assert 0 < value(found, "pie_program_cpu_seconds_total", **of) < PATIENCE_S


def test_the_names_of_vllm_have_the_same_numbers(used):
    _, found, _ = used
    (model,) = {dict(labels)["model"] for name, labels in found if name == "pie_engine_up"}
    vllm, of = {"model_name": model, "engine": "0"}, {"model": model}
    for theirs, ours in [
        ("vllm:prompt_tokens_total", "pie_prompt_tokens_total"),
        ("vllm:generation_tokens_total", "pie_generated_tokens_total"),
        ("vllm:time_to_first_token_seconds_sum", "pie_time_to_first_token_seconds_sum"),
        ("vllm:inter_token_latency_seconds_count", "pie_inter_token_latency_seconds_count"),
        ("vllm:e2e_request_latency_seconds_sum", "pie_inferlet_latency_seconds_sum"),
        ("vllm:prefix_cache_queries_total", "pie_prefix_asked_tokens_total"),
        ("vllm:prefix_cache_hits_total", "pie_prefix_found_tokens_total"),
        ("vllm:num_preemptions_total", "pie_suspensions_total"),
        ("vllm:num_requests_running", "pie_passes_running"),
        ("vllm:num_requests_waiting", "pie_passes_waiting"),
    ]:
        assert value(found, theirs, **vllm) == value(found, ours, **of), theirs
    assert value(found, "vllm:kv_cache_usage_perc", **vllm) == 0
    (info,) = [dict(labels) for name, labels in found if name == "vllm:cache_config_info"]
    pool = value(found, "pie_kv_pages_pool", **of)
    assert info == {**vllm, "block_size": "16", "num_gpu_blocks": str(int(pool))}
    (lora,) = [dict(labels) for name, labels in found if name == "vllm:lora_requests_info"]
    assert lora["running_lora_adapters"] == "" and int(lora["max_lora"]) > 0


def test_both_formats_say_the_same(used):
    url, found, _ = used
    open_metrics = numbers(url, read_open_metrics, OPEN_METRICS)
    changing = ("pie_http_", "process_", "vllm:lora")
    assert {key: number for key, number in open_metrics.items() if not key[0].startswith(changing)} == {
        key: number for key, number in found.items() if not key[0].startswith(changing)
    }


def test_stats_are_the_same_numbers(used, pie):
    url, found, _ = used
    metrics = {metric["name"]: metric for metric in requests.get(f"{url}/stats", timeout=PATIENCE_S).json()["metrics"]}
    (sample,) = metrics["pie_generated_tokens_total"]["samples"]
    assert sample["value"] == 4 * TOKENS == value(found, "pie_generated_tokens_total", **sample["labels"])
    (sample,) = metrics["pie_inter_token_latency_seconds"]["samples"]
    assert sum(sample["value"]["counts"]) == 4 * (TOKENS - 1)
    assert json.loads(pie.run("stats", "--server", url, "--json"))["metrics"][0]["name"] == "pie_engine_up"
    table = pie.run("stats", "--server", f"{url}/")
    rows = {line.split("  ")[0].strip(): line.split() for line in table.splitlines() if line}
    assert rows["generated tokens"][-1] == str(4 * TOKENS)
    assert rows["api-completions"][1:5] == ["0", "0", "5", "5"]
    assert rows["/v1/completions"][1:5] == ["5", "4", "1", "0"]


def test_running_requests_are_seen_while_they_run(used):
    url, _, _ = used
    body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    with requests.post(f"{url}/v1/completions", json=body, stream=True, timeout=PATIENCE_S) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(b"data: ")
        # A reading of a few milliseconds ago may be shown again.
        time.sleep(0.05)
        found = numbers(url)
        running = [number for (name, _), number in found.items() if name == "vllm:num_requests_running"]
        assert running == [1]
        assert value(found, "pie_inferlets_running", program="api-completions") == 1
        assert value(found, "pie_http_requests_running") == 2
        (usage,) = [number for (name, _), number in found.items() if name == "vllm:kv_cache_usage_perc"]
        assert 0 < usage < 1
    found = wait_until_idle(url)
    assert value(found, "pie_inferlet_ends_total", program="api-completions", outcome="killed") == 1
    assert value(found, "pie_http_requests_total", route="/v1/completions", status="200") == 5


def test_a_server_that_is_not_there_is_named_with_the_way_out(pie):
    for arguments, expected in [
        (["--server", "http://127.0.0.1:9"], ["http://127.0.0.1:9", "pie serve", "--server"]),
        (["--server", "127.0.0.1:9"], ["`--server 127.0.0.1:9`", "http://127.0.0.1:8080"]),
        (["--watch", "0"], ["--watch"]),
    ]:
        command = [pie.binary, "stats", *arguments]
        ended = subprocess.run(command, env=pie.environment, capture_output=True, text=True, timeout=PATIENCE_S)
        assert ended.returncode != 0
        for text in expected:
            assert text in ended.stderr, ended.stderr
