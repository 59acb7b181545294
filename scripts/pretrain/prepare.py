"""Trains the tokenizer and encodes the corpus: run once, on a CPU, before pretrain.py.

    python scripts/pretrain/prepare.py --data DIR --model bundled/model --out FILE.safetensors

DIR holds plain-english/plain-english.jsonl.xz and gsm8k/train.jsonl. Writes tokenizer.json, tokenizer_config.json and
special_tokens_map.json to the model folder, and one file of uint16 tokens with row offsets for pretrain.py.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus
import facts

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE: every digit is a token of its own, words split as GPT-2 splits them, no prefix space, no normalizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=corpus.SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": corpus.END, "pad_token": corpus.PAD, "additional_special_tokens": [corpus.TURN, corpus.TURN_END]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
        "added_tokens_decoder": {
            str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
            for i, t in enumerate(corpus.SPECIALS)
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of all texts behind each other (uint16) and the n + 1 offsets of the texts (int32)."""
    rows = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(r) for r in rows], out=offsets[1:])
    return np.array([i for r in rows for i in r], np.uint16), offsets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("bundled/model"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--facts", type=int, default=120_000, help="documents of made-up facts")
    args = parser.parse_args()

    sources = corpus.read_sources(args.data)
    rows = sources["train"]
    extra = corpus.extra_documents(rows)
    tokenizer = train_tokenizer([s for row in rows for s in row] + extra, args.vocab_size)
    save_tokenizer(tokenizer, args.model, args.context)

    tensors: dict[str, np.ndarray] = {}
    def put(name: str, texts: list[str]) -> None:
        tensors[name], tensors[name + "_offsets"] = encode(tokenizer, texts)
        size = sum(len(t.encode()) for t in texts)
        print(f"{name}: {len(texts)} rows, {len(tensors[name])} tokens, {size / max(1, len(tensors[name])):.2f} bytes a token")

    put("prompts", [p for p, _ in rows])
    put("texts", [t for _, t in rows])
    put("extra", extra)
    put("facts", facts.fact_documents(rows, args.facts))
    for held in ("held_plain", "held_math"):
        texts = [t if held == "held_plain" else p + "\n" + t for p, t in sources[held]]
        put(held, texts)
        tensors[held + "_bytes"] = np.array([sum(len(t.encode()) for t in texts)], np.int64)
    # What the chat form puts around a row, and the first row of GSM8K (its plain form keeps the question).
    for name, text in (("chat_user", "<|im_start|>user\n"), ("chat_assistant", "<|im_end|>\n<|im_start|>assistant\n"), ("chat_end", "<|im_end|>\n"), ("newline", "\n")):
        tensors[name] = np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.uint16)
    tensors["math_from"] = np.array([len(rows) - (len(corpus.read_lines(args.data / "gsm8k" / "train.jsonl")) - corpus.GSM8K_HELD_OUT)], np.int64)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out)


if __name__ == "__main__":
    main()
