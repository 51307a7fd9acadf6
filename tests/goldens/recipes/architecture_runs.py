"""Six updates of SFTTrainer's with an adapter on all linear layers, for every architecture; its weights are the formula's."""

import json
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from .architectures import FOLDER, RESULTS, attention, classes, formula_weights
from .paths import write_json
from .rng import next_draw
from .sft import build, read_rows
from .variants import MULTIMODAL, RUNS, VARIANTS

LORA = dict(r=4, lora_alpha=8, target_modules="all-linear")
ARGS = dict(
    seed=42, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=6, learning_rate=1e-2, max_grad_norm=1.0,
    optim="adamw_torch", lr_scheduler_type="linear", warmup_steps=2,
    # Not TRL's default, chunked_nll: that one forgets Granite's logits_scaling.
    loss_type="nll",
)  # fmt: skip
KEPT = ("loss", "grad_norm", "learning_rate")


def execute(variant: str, changes: dict) -> dict:
    kind = VARIANTS[variant][0]
    with tempfile.TemporaryDirectory() as folder:
        config = json.loads((FOLDER / variant / "config.json").read_text())
        (Path(folder) / "config.json").write_text(json.dumps({**config, **changes}))
        formula_weights(variant, Path(folder) / "model.safetensors")
        set_seed(ARGS["seed"])
        before = next_draw()
        model = classes(kind).from_pretrained(folder, dtype=torch.float32)
    assert next_draw() == before, "loading weights drew random numbers"
    model.set_attn_implementation(attention(model.config))
    excluded = {"exclude_modules": r".*(vision_tower|multi_modal_projector).*"} if kind in MULTIMODAL else {}
    trainer = build(get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA, **excluded)), read_rows("prompt-completion"), **ARGS)
    trainer.train()
    return {"variant": variant, "config": changes, "log": [[entry[key] for key in KEPT] for entry in trainer.state.log_history if "loss" in entry]}


def make(*names: str) -> None:
    """All runs, or those named alone."""
    path = RESULTS / "runs.json"
    runs = json.loads(path.read_text())["runs"] if names else {}
    for name in names or RUNS:
        print("  ", name, flush=True)
        runs[name] = execute(*RUNS[name])
    write_json(path, {"data": "prompt-completion.jsonl", "lora": LORA, "args": ARGS, "runs": runs})
