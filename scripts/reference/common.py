"""What the scripts of this folder share: paths, versions, and writing small deterministic files."""
import hashlib
import json
import os
from pathlib import Path

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # bitsandbytes compiles some fallbacks; the eager ones give the same bits sooner
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("LOWRANK_THREADS", "2"))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

torch.set_num_threads(int(os.environ.get("LOWRANK_THREADS", "2")))

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "fixtures"
CACHE = Path(os.environ.get("LOWRANK_CACHE", Path.home() / ".cache" / "lowrank"))
MODELS = CACHE / "models"
SMOLLM2 = MODELS / "SmolLM2-135M-Instruct"
SMOLLM2_BNB = MODELS / "SmolLM2-135M-Instruct-bnb-4bit"
SHARED = Path(os.environ.get("LOWRANK_SHARED", REPOSITORY.parent / "shared"))
GSM8K = SHARED / "data" / "gsm8k" / "train.jsonl"


def versions():
    """Versions of the clients that made a record."""
    import importlib.metadata, peft, transformers

    try:
        bitsandbytes = importlib.metadata.version("bitsandbytes")
    except importlib.metadata.PackageNotFoundError:
        bitsandbytes = None  # dense bases need none
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "bitsandbytes": bitsandbytes,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **({"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}),
    }


def write_json(path, value, indent=1):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def write_tensors(path, tensors, metadata=None):
    """Tensors by name (any order), contiguous copies, no shared storage."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, str(path), metadata={"format": "pt", **(metadata or {})})


def sha256(tensor):
    """SHA-256 of the little-endian bytes of a tensor in row-major order."""
    return hashlib.sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def bits(value):
    """An f32 scalar as 0x-prefixed bits, to say exactly what decimal digits may hide."""
    return f"0x{torch.tensor(float(value), dtype=torch.float32).view(torch.int32).item() & 0xFFFFFFFF:08x}"
