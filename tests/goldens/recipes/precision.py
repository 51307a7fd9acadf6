"""fp16's loss scale, runs of the Trainer with updates that overflow, and evaluations with weights in 16 bits."""

import math

import torch
from accelerate.utils import AutocastKwargs
from peft import PeftModel
from transformers import AutoModelForCausalLM

from .paths import FIXTURES, GOLDENS, write_json
from .runs import HOT, LORA, steady
from .sft import build, load_model, read_rows

OVERFLOWS = (1, 2, 5)  # updates, counted from 0


def scale_after_updates(overflows: set[int], updates: int) -> dict:
    """GradScaler with its own defaults: [update, scale, good updates in a row] wherever the scale changed, and at the end."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler("cpu")
    changes, before = [], scaler.get_scale()
    for update in range(updates):
        scaler.scale((weight * (math.inf if update in overflows else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        state = scaler.state_dict()
        if state["scale"] != before or update == updates - 1:
            changes.append([update, state["scale"], state["_growth_tracker"]])
        before = state["scale"]
    return {"overflows": sorted(overflows), "updates": updates, "changes": changes}


def overflowing_run(optim: str) -> dict:
    """
    The Trainer's fp16 has no scaler on the CPU, so it is given GradScaler's CPU form, with float32 arithmetic; gradients
    are made infinite at some updates.
    """
    args = {**HOT, "seed": 42, "optim": optim, "num_train_epochs": 2}
    trainer = build(load_model("tiny-llama-fp16", 42, LORA), read_rows("prompt-completion"), **args)
    accelerator = trainer.accelerator
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    accelerator.autocast_handler = AutocastKwargs(enabled=False)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    weight = next(p for p in trainer.model.parameters() if p.requires_grad)
    weight.register_hook(lambda gradient: gradient * math.inf if trainer.state.global_step in OVERFLOWS else gradient)
    trainer.train()
    scaler = accelerator.scaler.state_dict()
    accelerator.state._mixed_precision = "no"
    history = [steady(record) for record in trainer.state.log_history]
    for record in history:
        if not math.isfinite(record.get("grad_norm", 0.0)):
            del record["grad_norm"]
    return {
        "model": "tiny-llama-fp16", "data": "prompt-completion.jsonl", "lora": LORA, "args": args, "max_steps": trainer.state.max_steps,
        "overflows": OVERFLOWS, "scale": scaler["scale"], "log_history": history,
    }  # fmt: skip


def full_eval(adapter: bool, dtype=None, **args) -> dict:
    """dtype: weights are rounded to it (but not the rotary frequencies, as `to` would), and the arithmetic is float32's."""
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / "tiny-llama", dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, FIXTURES / "tiny-llama-adapter")
    if dtype is not None:
        for weight in model.parameters():
            weight.data = weight.data.to(dtype).to(torch.float32)
    rows = read_rows("prompt-completion")
    trainer = build(model, rows, eval_rows=rows, per_device_eval_batch_size=32, **args)
    return trainer.evaluate()["eval_loss"]


def full_evals(adapter: bool, name: str, dtype) -> dict:
    return {
        "adapter": adapter, "argument": name, "eval_loss": full_eval(adapter, **{name: True}),
        "eval_loss_rounded": full_eval(adapter, dtype),
    }  # fmt: skip


def make() -> None:
    scales = [(set(), 4100), ({0, 1, 2, 7}, 2020), ({1999, 2000, 3999}, 6100)]
    write_json(GOLDENS / "loss-scale.json", [scale_after_updates(*case) for case in scales])
    write_json(GOLDENS / "fp16-overflow.json", {optim: overflowing_run(optim) for optim in ("adamw_torch", "adamw_torch_fused")})
    choices = [("bf16_full_eval", torch.bfloat16), ("fp16_full_eval", torch.float16)]
    write_json(GOLDENS / "full-eval.json", [full_evals(adapter, *choice) for adapter in (False, True) for choice in choices])
