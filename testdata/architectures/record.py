"""Records what Hugging Face transformers computes for tiny models with random weights, one file per case.

    python -m venv venv && venv/bin/pip install torch transformers gguf
    venv/bin/python testdata/architectures/record.py [CASE ...]

A file has the model's config.json; name, shape, base and scale of each tensor; token ids; and the logits of some rows,
or of an encoder, which has none, the hidden rows of its last layer, computed in float32. The value number i of a tensor is `base + scale * u[i]`, with `u` from SplitMix64 seeded by the
FNV-1a hash of its name, so the weights need not be kept; crates/backend-cpu/tests/transformers.rs makes the same ones.
`gguf` says which tensor of GGUF files, by the package of llama.cpp, holds each.
"""

import json
import pathlib
import re
import sys

import gguf
import numpy
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent
TOKENS = 20
ROWS = [0, 4, 9, 14, 19]
VOCABULARY = 40
# The numbers of most cases, as llama's config names them.
LLAMA = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
BERT = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64)
OPT = dict(vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
           max_position_embeddings=64, word_embed_proj_dim=32)

# Case -> model_type, architecture in GGUF or None, numbers.
CASES = {
    "llama": ("llama", "LLAMA", LLAMA),
    "llama-3-scaling": ("llama", "LLAMA", dict(LLAMA, rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32))),
    "qwen2-yarn": ("qwen2", "QWEN2", dict(LLAMA, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16))),
    "phi3-longrope": ("phi3", "PHI3", dict(
        LLAMA, pad_token_id=0, original_max_position_embeddings=32, rope_parameters=dict(
            rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.2, 1.5, 2.0],
            long_factor=[1.0, 3.0, 7.0, 9.0]))),
    "qwen2": ("qwen2", "QWEN2", LLAMA),
    "qwen3": ("qwen3", "QWEN3", dict(LLAMA, head_dim=16)),
    "mistral-window": ("mistral", "LLAMA", dict(LLAMA, sliding_window=6)),
    # The heads of sshleifer/tiny-gpt2 have one value, too.
    "gpt2-narrow": ("gpt2", "GPT2", dict(vocab_size=VOCABULARY, n_embd=2, n_head=2, n_layer=2, n_positions=32)),
    "gpt2": ("gpt2", "GPT2", dict(vocab_size=VOCABULARY, n_embd=32, n_head=4, n_layer=2, n_positions=32)),
    "opt": ("opt", None, OPT),
    "gemma2": ("gemma2", "GEMMA2", dict(
        LLAMA, tie_word_embeddings=True, head_dim=16, sliding_window=6, query_pre_attn_scalar=12,
        attn_logit_softcapping=2.0, final_logit_softcapping=5.0)),
    "gemma3": ("gemma3_text", "GEMMA3", dict(
        LLAMA, tie_word_embeddings=True, head_dim=16, sliding_window=6, query_pre_attn_scalar=12,
        layer_types=["sliding_attention", "full_attention"], rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
            sliding_attention=dict(rope_type="default", rope_theta=100.0)))),
    "phi3": ("phi3", "PHI3", dict(LLAMA, pad_token_id=0, partial_rotary_factor=0.75)),
    "olmo2": ("olmo2", "OLMO2", LLAMA),
    "smollm3": ("smollm3", "SMOLLM3", dict(LLAMA, pad_token_id=0, no_rope_layers=[0, 1])),
    "granite": ("granite", "GRANITE", dict(LLAMA, embedding_multiplier=3.0, residual_multiplier=0.4,
                                           attention_multiplier=0.2, logits_scaling=0.5)),
    "qwen3moe": ("qwen3_moe", "QWEN3MOE", dict(
        LLAMA, head_dim=8, moe_intermediate_size=16, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True)),
    "bert": ("bert", "BERT", BERT),
    # As facebook/opt-350m.
    "opt-norm-of-sum": ("opt", None, dict(OPT, word_embed_proj_dim=16, do_layer_norm_before=False)),
}


# Model types without logits.
ENCODERS = {"bert"}


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def uniform(seed, count):
    """As SplitMix64::uniform of the crate `model`: in [-1, 1), with 24 bits."""
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)


def rule(name, tensor, model_type):
    """Base and scale of a tensor's values, such that logits are some units large."""
    is_norm = any(part in name.lower() for part in ("norm", "ln_"))
    if name.endswith("bias"):
        return 0.0, 0.25
    if is_norm:
        # Gemma adds 1 itself.
        return (0.0 if model_type.startswith("gemma") else 1.0), 0.25
    if any(part in name for part in ("embed", "wte", "wpe")):
        return 0.0, 1.0
    return 0.0, round(float(2.0 / numpy.sqrt(min(tensor.shape[-2:]))), 3)


def gguf_name_of(table, name):
    """GGUF files have one tensor for all experts. Of single ones it is the same name with the number of the expert."""
    alone = re.sub(r"(experts)\.\d+", r"\1", name)
    found = table.get_name(alone, try_suffixes=(".weight", ".bias"))
    expert = re.search(r"experts\.(\d+)\.", name)
    return re.sub(r"\.weight$", rf".{expert[1]}.weight", found) if expert else found


def record(case):
    model_type, gguf_name, numbers = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **numbers)
    config._attn_implementation = "eager"
    is_encoder = model_type in ENCODERS
    kind = transformers.AutoModel if is_encoder else transformers.AutoModelForCausalLM
    options = dict(add_pooling_layer=False) if is_encoder else {}
    model = kind.from_config(config, **options).eval().float()
    state = model.state_dict()
    tied = config.get_text_config().tie_word_embeddings
    tensors = []
    folder = FOLDER / "build"
    model.save_pretrained(folder)
    import safetensors.torch

    saved = safetensors.torch.load_file(folder / "model.safetensors")
    for name, tensor in sorted(saved.items()):
        base, scale = rule(name, tensor, model_type)
        values = numpy.float32(base) + numpy.float32(scale) * uniform(fnv1a(name), tensor.numel())
        saved[name] = torch.from_numpy(values.astype(numpy.float32)).reshape(tensor.shape).contiguous()
        tensors.append([name, list(tensor.shape), base, scale])
    safetensors.torch.save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    model = kind.from_pretrained(folder, attn_implementation="eager", **options).eval().float()
    ids = [int(v) for v in numpy.random.default_rng(len(case)).integers(0, VOCABULARY, TOKENS)]
    with torch.no_grad():
        output = model(torch.tensor([ids]))
    answer, values = ("hidden", output.last_hidden_state[0]) if is_encoder else ("logits", output.logits[0])
    largest = float(values.abs().max())
    assert largest > 1.0, f"{case}: {answer} of at most {largest} prove little"
    written = json.loads((folder / "config.json").read_text())
    names = None
    if gguf_name:
        table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[gguf_name], 8)
        names = {name: gguf_name_of(table, name) for name, *_ in tensors}
    result = dict(
        transformers=transformers.__version__, config=written, tensors=tensors, gguf=names, ids=ids, rows=ROWS,
        **{answer: [[round(float(v), 5) for v in values[row]] for row in ROWS]})
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in result.items())
    (FOLDER / f"{case}.json").write_text("{\n" + lines + "\n}\n")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    print(f"{case}: {len(tensors)} tensors, {answer} to {largest:.2f}, tied {tied}, {len(state)} in the state")


for case in sys.argv[1:] or CASES:
    record(case)
