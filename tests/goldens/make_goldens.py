"""Makes tests/fixtures and tests/goldens from pinned Python packages; see README.md. `python make_goldens.py [part[:name,name] ...]`"""

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True

import torch  # noqa: E402

PARTS = ["fixtures", "logits", "tokens", "lora", "adapters", "runs", "order", "schedules", "generation", "evaluation", "evaluation_runs", "packing", "events", "tensorboard", "quantization", "precision", "optimizers", "architectures", "architecture_runs", "config_keys", "attention_dropout", "chat_templates"]


def main(parts: list[str]) -> None:
    torch.set_num_threads(1)
    for part, _, names in (part.partition(":") for part in parts or PARTS):
        if part not in PARTS:
            sys.exit(f"unknown part {part!r}; parts are {', '.join(PARTS)}")
        print(f"== {part}", flush=True)
        importlib.import_module(f"recipes.{part}").make(*filter(None, names.split(",")))


if __name__ == "__main__":
    main(sys.argv[1:])
