"""Pretrains the bundled base model on the file that prepare.py wrote, on one GPU (or, for a trial, on a CPU).

    python scripts/pretrain/pretrain.py --corpus FILE.safetensors --out FOLDER --steps 6000

Whole documents are packed into windows, each window beginning with one (every second with the end mark before it); what
does not fit is cut. Every epoch shuffles the documents and draws anew whether a row is told as plain text or as a chat. AdamW, linear warm-up, constant rate, and a
linear decay to zero at the end; bf16 arithmetic over f32 weights. Prints held-out bits per byte as it goes.
"""

import argparse
import json
import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights
from torch import Tensor

from model import Llama, Shape, save_folder

END = 0


class Corpus:
    """Documents of uint16 tokens, and the windows of an epoch made of them."""

    def __init__(self, file: Path, parts: list[str]):
        self.arrays, self.parts = load_file(file), parts
        self.math_from = int(self.arrays["math_from"][0])

    def rows(self, name: str) -> list[np.ndarray]:
        """The texts stored under a name, as slices of one array."""
        tokens, offsets = self.arrays[name], self.arrays[name + "_offsets"]
        return [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:])]

    def documents(self, rng: np.random.Generator, chat_share: float, part_share: float) -> list[np.ndarray]:
        """Every training row once, as a chat or plain, and a share of the documents of the other parts, shuffled."""
        a = self.arrays
        end = np.array([END], np.uint16)
        documents = [np.concatenate((row, end)) for part in self.parts for row in self.rows(part) if rng.random() < part_share]
        for i, (prompt, text) in enumerate(zip(self.rows("prompts"), self.rows("texts"))):
            if rng.random() < chat_share:
                documents.append(np.concatenate((a["chat_user"], prompt, a["chat_assistant"], text, a["chat_end"], end)))
            elif i >= self.math_from:
                documents.append(np.concatenate((prompt, a["newline"], text, end)))
            else:
                documents.append(np.concatenate((text, end)))
        rng.shuffle(documents)
        return documents

    def windows(self, rng: np.random.Generator, length: int, chat_share: float, part_share: float) -> np.ndarray:
        """(n, length) tokens of one epoch; a document that crosses a window's end is cut there."""
        windows, window, filled = [], np.full(length, END, np.uint16), 0
        for document in self.documents(rng, chat_share, part_share):
            take = min(len(document), length - filled)
            window[filled : filled + take] = document[:take]
            filled += take
            if filled == length:
                windows.append(window)
                window, filled = np.full(length, END, np.uint16), len(windows) % 2
        return np.stack(windows)


def batches(args: argparse.Namespace, ready: multiprocessing.Queue) -> None:
    """Puts (batch, length) arrays into the queue for ever; runs in a process of its own."""
    corpus, rng = Corpus(args.corpus, args.parts), np.random.default_rng(args.seed)
    while True:
        windows = corpus.windows(rng, args.window, args.chat_share, args.part_share)
        for start in range(0, len(windows) - args.batch + 1, args.batch):
            ready.put(windows[start : start + args.batch])


@torch.no_grad()
def bits_per_byte(model: Llama, corpus: Corpus, name: str, device: torch.device, context: int) -> float:
    """Bits a byte of the held-out rows, each on its own, the first token predicted from the end mark before it."""
    model.eval()
    rows = [np.concatenate(([END], r))[:context] for r in corpus.rows(name)]
    full = sum(len(r) for r in corpus.rows(name))
    kept = sum(len(r) - 1 for r in rows)
    rows.sort(key=len)
    total = 0.0
    for start in range(0, len(rows), 50):
        part = rows[start : start + 50]
        tokens = np.full((len(part), max(map(len, part))), END, np.int64)
        mask = np.zeros(tokens.shape, bool)
        for i, row in enumerate(part):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        with torch.autocast(device.type, torch.bfloat16):
            losses = model.loss(torch.from_numpy(tokens).to(device), "none")
        total += losses[torch.from_numpy(mask[:, 1:].ravel()).to(device)].double().sum().item()
    model.train()
    # Rows longer than the context count with the bits a token of what was read.
    return total / kept * full / math.log(2) / int(corpus.arrays[name + "_bytes"][0])


def rate(progress: float, peak: float, decay: float, warmup: float = 0.02) -> float:
    """Learning rate at a share of the run: linear up, constant, linear down to zero."""
    return peak * min(1.0, progress / warmup, (1.0 - progress) / decay)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--seconds", type=float, help="end so long after the start, whatever the steps; the schedule follows the clock")
    parser.add_argument("--init", type=Path, help="a model folder to go on from (a second stage)")
    parser.add_argument("--parts", nargs="*", default=["extra"], help="parts of the corpus beside the rows: extra, facts")
    parser.add_argument("--batch", type=int, default=128, help="windows a step")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.35, help="share of the run over which the rate falls to zero")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--chat-share", type=float, default=0.5)
    parser.add_argument("--part-share", type=float, default=1.0, help="share of the parts' documents told in an epoch")
    parser.add_argument("--eval-every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Queue(maxsize=64)
    feeder = spawn.Process(target=batches, args=(args, ready), daemon=True)
    feeder.start()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    corpus = Corpus(args.corpus, args.parts)
    model = Llama(Shape(max_position_embeddings=args.window), args.dropout).to(device)
    if args.init:
        model.load_state_dict({name.removeprefix("model."): w.float() for name, w in load_weights(args.init / "model.safetensors").items()})
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {parameters - model.embed_tokens.weight.numel()} without the embedding, on {device}", flush=True)
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": args.weight_decay}, {"params": norms, "weight_decay": 0.0}],
        lr=args.learning_rate, betas=(0.9, 0.95), fused=device.type == "cuda",
    )
    loss_of = torch.compile(model.loss) if args.compile else model.loss


    def next_batch() -> Tensor:
        tokens = torch.from_numpy(ready.get().astype(np.int32))
        return tokens.pin_memory().to(device, non_blocking=True).long() if device.type == "cuda" else tokens.long()

    def held_out() -> dict[str, float]:
        return {name: round(bits_per_byte(model, corpus, name, device, args.window), 4) for name in ("held_plain", "held_math")}

    def train_step(progress: float) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = rate(progress, args.learning_rate, args.decay)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(next_batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    log, step, launched = [], 0, time.monotonic()
    began = launched  # set anew after the first step: what the compiler took is not training
    while True:
        progress = step / args.steps if args.steps else (time.monotonic() - began) / (launched + args.seconds - began)
        if progress >= 1:
            break
        loss = train_step(progress)
        step += 1
        if step == 1:
            loss.item()
            began = time.monotonic()
            print(f"first step after {began - launched:.0f} s", flush=True)
        if step % args.eval_every == 0 or step == 50:
            seconds = time.monotonic() - began
            entry = {"step": step, "tokens": step * args.batch * args.window, "loss": round(loss.item(), 4), **held_out()}
            log.append(entry)
            print(json.dumps(entry), f"{entry['tokens'] / seconds:.0f} tokens/s", f"{seconds:.0f} s", flush=True)
    feeder.kill()  # it may be waiting for room in the queue
    ready.cancel_join_thread()
    save_folder(model, args.out)
    tokens_epoch = sum(len(corpus.arrays[n]) for n in ("prompts", "texts", *args.parts))
    result = {
        "parameters": parameters, "steps": step, "tokens": step * args.batch * args.window, "corpus_tokens": tokens_epoch,
        "bits_per_byte": held_out(), "seconds": round(time.monotonic() - began), "log": log,
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
    }
    (args.out / "pretrain-log.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["bits_per_byte"]), flush=True)


if __name__ == "__main__":
    main()
