"""Tokens a second of OpenVINO GenAI on a GGUF file, two threads: prompts, and decoding alone and in batches, which is what a
long answer takes more than a short one. The peer of `pie bench` in docs/performance.md.

    pip install openvino-genai numpy
    python openvino.py MODEL.gguf [SEED]
"""

import json
import sys
import time

import numpy
import openvino
import openvino_genai as genai

scheduler = genai.SchedulerConfig()
scheduler.cache_size = 4
scheduler.max_num_batched_tokens = 512
scheduler.max_num_seqs = 64
scheduler.enable_prefix_caching = False
pipeline = genai.LLMPipeline(sys.argv[1], "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=2)
random = numpy.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)


def seconds(batch, prompt, answer):
    """Of so many made-up prompts at once, each with an answer of so many tokens."""
    ids = random.integers(1000, 40000, size=(batch, prompt), dtype=numpy.int64)
    inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
    config = genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = answer
    config.ignore_eos, config.do_sample = True, False
    start = time.perf_counter()
    result = pipeline.generate(inputs, config)
    elapsed = time.perf_counter() - start
    found = sum(len(tokens) for tokens in result.tokens)
    assert found == batch * answer, f"{found} tokens, expected {batch * answer}"
    return elapsed


def decoding(batch, prompt, answer):
    short, long = seconds(batch, prompt, 1), seconds(batch, prompt, answer)
    return batch * (answer - 1) / (long - short)


seconds(1, 16, 4)
found = {f"prefill {n}": n / min(seconds(1, n, 1) for _ in range(2)) for n in (128, 512, 2048)}
found["decode 1"] = decoding(1, 8, 129)
found["decode 8 at 256"] = decoding(8, 256, 65)
found["decode 32 at 256"] = decoding(32, 256, 33)
found["decode 1 at 4096"] = decoding(1, 4096, 65)
print(json.dumps({name: round(value, 1) for name, value in found.items()}))
