"""Records what the weights of a GGUF file say of texts: NAME.json and NAME.bin for the file NAME.gguf, as README.md describes.

    python -m venv venv && venv/bin/pip install torch transformers gguf
    venv/bin/python testdata/reference/record.py gemma-3-270m-q4_k_m.gguf

transformers dequantizes the file, computes in float32 and makes the file's tokenizer. The texts and prompts are those of
smollm2-135m-q4_1.json.
"""

import hashlib
import json
import pathlib
import sys

import numpy
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent
TOP = 128
GREEDY = 48


def log_probs(model, ids):
    """Log-probabilities after each of the tokens, `[len(ids)][vocabulary]`."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    return torch.log_softmax(logits, dim=-1)


def continuation(model, tokenizer, prompt):
    """The greedy tokens after a prompt, and how sure the model is of each."""
    prompt_ids = tokenizer(prompt).input_ids
    ids, margins = [], []
    for _ in range(GREEDY):
        best = log_probs(model, prompt_ids + ids)[-1].topk(2)
        ids.append(best.indices[0].item())
        margins.append(round((best.values[0] - best.values[1]).item(), 4))
    return dict(prompt=prompt, prompt_ids=prompt_ids, ids=ids, margin_nat=margins, text=tokenizer.decode(ids))


def main():
    path = pathlib.Path(sys.argv[1]).resolve()
    texts = json.loads((FOLDER / "smollm2-135m-q4_1.json").read_text())
    load = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(**load)

    recorded, rows = {}, []
    for key, text in texts["texts"].items():
        ids = tokenizer(text["text"]).input_ids
        found = log_probs(model, ids)
        nll = -found[:-1].gather(1, torch.tensor(ids[1:])[:, None]).mean().item()
        recorded[key] = dict(text=text["text"], ids=ids, mean_nll=round(nll, 4))
        best = found.topk(TOP)
        rows += [best.indices.numpy().astype("<u4"), best.values.numpy().astype("<f4")]
        print(key, len(ids), "tokens, mean nll", recorded[key]["mean_nll"], flush=True)
    greedy = [continuation(model, tokenizer, one["prompt"]) for one in texts["greedy"]]
    json_file = dict(
        model=path.name, bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        how=texts["how"], top=TOP, texts=recorded, greedy=greedy)
    (FOLDER / f"{path.stem}.json").write_text(json.dumps(json_file, indent=1, ensure_ascii=False) + "\n")
    (FOLDER / f"{path.stem}.bin").write_bytes(b"".join(numpy.ascontiguousarray(row).tobytes() for row in rows))


if __name__ == "__main__":
    main()
