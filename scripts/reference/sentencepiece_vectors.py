"""A small SentencePiece BPE model with byte fallback, as Llama 2's, and the ids it gives → fixtures/tokenizer/sentencepiece.json.

Needs the packages `sentencepiece` and `protobuf` and GSM8K; nothing else of this folder.

{version, pieces: [[text, score, type]] (type as tokenizer.ggml.token_type), texts: [{text, ids, decoded}]}
"""
import io
import json
import os
from pathlib import Path

import sentencepiece as sp
from sentencepiece import sentencepiece_model_pb2 as pb

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LOWRANK_SHARED", REPOSITORY.parent / "shared"))
TEXTS = [
    "Hello world", " Hello  world", "   ", "a", "1234567890 and 3.14", "don't we'll", "a\nb\r\nc\td", "naïve café Ångström", "Ελληνικά 中文 日本語", "👩‍👩‍👧‍👦 🇨🇭",
    "def f(x):\n    return x ** 2\n", "<0x0A> <s> </s> <unk>"[:6], "trailing space ", "\u00a0x", "aaaaaaaaaaaaaaaaaaaaaaaa", "Natalia sold clips to 48 of her friends in April.",
]

rows = [json.loads(line) for line in (SHARED / "data" / "gsm8k" / "train.jsonl").read_text().splitlines()]
model = io.BytesIO()
sp.SentencePieceTrainer.train(
    sentence_iterator=iter(row["question"] for row in rows[:2000]), model_writer=model, model_type="bpe", vocab_size=900, byte_fallback=True, split_digits=True,
    character_coverage=0.9995, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True, allow_whitespace_only_pieces=True, num_threads=1,
    minloglevel=2,
)
proto = pb.ModelProto.FromString(model.getvalue())
processor = sp.SentencePieceProcessor(model_proto=model.getvalue())
texts = TEXTS + [row[key] for row in rows[3000:3040] for key in ("question", "answer")]
record = {
    "version": sp.__version__,
    "pieces": [[piece.piece, piece.score, piece.type] for piece in proto.pieces],
    "texts": [{"text": text, "ids": (ids := processor.encode(text)), "decoded": processor.decode(ids)} for text in texts],
}
out = REPOSITORY / "fixtures" / "tokenizer" / "sentencepiece.json"
out.write_text(json.dumps(record, ensure_ascii=False) + "\n")
print(len(record["pieces"]), "pieces")
