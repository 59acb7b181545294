"""How the Rust tokenizers library cuts text with the pre-tokenizers that GGUF files name → fixtures/tokenizer/words.json.

usage: tokenizer_words.py STYLES.json   (an object: name of tokenizer.ggml.pre → pre-tokenizer as in tokenizer.json; the recorded file's
own `styles` will do)

{versions, styles, texts, words: {style: [words of each text, byte-level letters]}}
"""
import json
import sys
from pathlib import Path

from common import FIXTURES, write_json

import tokenizers

TEXTS = [
    "", " ", "  ", "\n\n \t\n", "Hello world", " hello  world   three", "don't WE'LL I'm they'VE he'd it's O'Neill", "1234567890", "3.14159, 1,000,000 and -42",
    "a  200 and   60%", "$5 + $7.50 = $12.50", "<<48/2=24>>24\n#### 72", "a\nb\r\nc\td\n\n\ne", "helloWorld HTTPServer iPhone XMLHttpRequest2",
    "naïve café Ångström", "Ελληνικά русский العربية 中文 日本語 한국어", "हिन्दी ไทย", "👩‍👩‍👧‍👦 🇨🇭 e\u0301 \u00a0x\u200by", "½ ² Ⅷ ٣٤", "\u2028\ufeff\u00ad",
    "def f(x):\n    return x ** 2  # square\n", "https://example.org/a?b=c&d=%20#e", "`a` ~b~ |c| ^d^ <e> {f} [g] (h)", "!!!???... --- ___", "'s't're've'm'll'd", "x" * 3 + " " * 10 + "y",
    "trailing space ", "tabs\t\tand\u3000wide", "𝒜𝓃 𝔞𝔩𝔭𝔥𝔞 𝟙𝟚", "ﬁ Ǆ ǅ ʰ ª",
]


def cutter(style):
    model = {"type": "BPE", "vocab": {}, "merges": []}
    json_form = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": style, "post_processor": None, "decoder": None, "model": model}
    return tokenizers.Tokenizer.from_str(json.dumps(json_form)).pre_tokenizer


styles = json.loads(Path(sys.argv[1]).read_text())
styles = styles.get("styles", styles)
words = {name: [[word for word, _ in cutter(style).pre_tokenize_str(text)] for text in TEXTS] for name, style in styles.items()}
write_json(FIXTURES / "tokenizer" / "words.json", {"versions": {"tokenizers": tokenizers.__version__}, "styles": styles, "texts": TEXTS, "words": words}, indent=None)
