"""Reads the two sources and turns their rows into training documents.

Sources (both JSON lines):
  plain-english  {"prompt", "text"}       rows whose index is a multiple of 100 are held out
  gsm8k          {"question", "answer"}   the last 200 rows are held out

A row is told in one of several forms, so that the model meets prose, chat turns and JSON before anybody fine-tunes it:
  plain  the text alone (for GSM8K: question, newline, answer)
  chat   one user turn and one assistant turn in the chat template's markers
  json   the row as one line of compact JSON
  notes  a sentence of the row, a newline, and a JSON object of things copied out of it (names, numbers, first and last words)
"""

import json
import lzma
import random
import re
from pathlib import Path

END, TURN, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIALS = [END, TURN, TURN_END, PAD]
GSM8K_HELD_OUT = 200
PLAIN_HELD_OUT_EVERY = 100


def read_lines(path: Path) -> list[dict]:
    """Rows of a .jsonl or .jsonl.xz file."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_sources(data: Path) -> dict[str, list[tuple[str, str]]]:
    """{"train", "held_plain", "held_math"}: lists of (prompt, text), surrounding white space removed."""
    plain = [(r["prompt"].strip(), r["text"].strip()) for r in read_lines(data / "plain-english" / "plain-english.jsonl.xz")]
    math = [(r["question"].strip(), r["answer"].strip()) for r in read_lines(data / "gsm8k" / "train.jsonl")]
    held_plain = plain[::PLAIN_HELD_OUT_EVERY]
    seen = {text for _, text in held_plain}
    train = [row for i, row in enumerate(plain) if i % PLAIN_HELD_OUT_EVERY and row[1] not in seen]
    return {"train": train + math[:-GSM8K_HELD_OUT], "held_plain": held_plain, "held_math": math[-GSM8K_HELD_OUT:]}


def as_json(prompt: str, text: str) -> str:
    """The row as a line of JSON, under keys drawn from the text's length so that they vary but repeat exactly."""
    keys = [("prompt", "text"), ("question", "answer"), ("request", "reply"), ("title", "body")][(len(prompt) + len(text)) % 4]
    return json.dumps(dict(zip(keys, (prompt, text))), ensure_ascii=False, separators=(",", ":"))


def as_notes(source: str, rng: random.Random) -> str:
    """A sentence, then a JSON object of two or three things found in it, in a random order."""
    words = re.findall(r"[A-Za-z0-9'-]+", source)
    count = min(rng.choice((1, 2, 2, 3, 4)), len(words))
    middle = rng.randrange(len(words))
    numbers = re.findall(r"(?<![\d.,])\d{1,4}(?:\.\d{1,2})?(?![\d.,]*\d)", source)[:4]
    notes: dict[str, object] = {
        "names": list(dict.fromkeys(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", source)))[:4],
        "numbers": [float(n) if "." in n else int(n) for n in numbers],
        "first": " ".join(words[:count]),
        "last": " ".join(words[-count:]),
        "some": [words[i] for i in sorted(rng.sample(range(len(words)), min(count, 3)))],
        "pair": {"word": words[middle], "next": words[middle + 1] if middle + 1 < len(words) else None},
        "question": source.endswith("?"),
        "words": len(words),
    }
    pairs = [(key, value) for key, value in notes.items() if value != []]
    chosen = dict(rng.sample(pairs, min(len(pairs), rng.choice((2, 2, 3)))))
    chosen.update(chosen.pop("pair", {}))
    return source + "\n" + json.dumps(chosen, ensure_ascii=False, separators=(",", ":"))


def note_source(prompt: str, text: str, rng: random.Random) -> str | None:
    """The prompt or one sentence of the text, 4 to 30 words long; None if the drawn one does not fit."""
    sentences = [prompt] if rng.random() < 0.4 else re.split(r"(?<=[.!?])\s+", text.replace("\n", " "))
    sentence = rng.choice(sentences).strip()
    return sentence if 4 <= len(re.findall(r"[A-Za-z0-9'-]+", sentence)) <= 30 else None


def extra_documents(rows: list[tuple[str, str]], seed: int = 0) -> list[str]:
    """The json form of every fifth row, if short, and the notes form of a sentence of every row where one fits."""
    rng = random.Random(seed)
    documents = [as_json(p, t) for i, (p, t) in enumerate(rows) if i % 5 == 1 and len(p) + len(t) < 600]
    sources = [note_source(p, t, rng) for p, t in rows]
    return documents + [as_notes(s, rng) for s in sources if s]
