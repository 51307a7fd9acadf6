"""Python's half of differential.mjs: a run of TRL's SFTTrainer for each line of JSON on stdin, its log as a line on stdout."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "goldens"))
sys.dont_write_bytecode = True

import torch  # noqa: E402
from recipes.runs import steady  # noqa: E402
from recipes.sft import build, load_model  # noqa: E402

torch.set_num_threads(1)
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what libraries print is no answer


def nudge(model, seed: int) -> None:
    """Changes each weight by about one rounding of float32."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1 + torch.finfo(torch.float32).eps * torch.randn(weight.shape, generator=generator)


def train(case: dict) -> list[dict]:
    model = load_model("tiny-llama", case["args"]["seed"], case["lora"])
    if "nudge" in case:
        nudge(model, case["nudge"])
    trainer = build(model, case["rows"], **case["args"])
    trainer.train()
    return [steady(entry) for entry in trainer.state.log_history]


for line in sys.stdin:
    try:
        answer = {"log": train(json.loads(line))}
    except Exception as error:  # noqa: BLE001: whatever it is, it is this case's answer
        answer = {"error": f"{type(error).__name__}: {error}"[:500]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
