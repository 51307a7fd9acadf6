"""Weights and states after some updates, by the optimizer that the Trainer makes of each `optim`."""

import bitsandbytes
import torch
from bitsandbytes.backends.cpu import ops as cpu
from safetensors.torch import save_file
from transformers import Trainer, TrainingArguments

from .paths import GOLDENS, write_json

SHAPES = {"layers.0.weight": (46, 92), "norm.weight": (37,)}  # the first is large enough for 8-bit states
DECAY, STEPS, LR = 0.1, 6, 1e-2
BETAS = dict(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-7)

CASES = {
    "adamw": dict(optim="adamw_torch"),
    "adamw-paged": dict(optim="paged_adamw_32bit"),
    "adamw-8bit": dict(optim="adamw_bnb_8bit"),
    "adamw-8bit-codes": dict(optim="adamw_8bit", adam_beta1=0.0, adam_beta2=0.0),  # v = g²: the quantizer by itself
    "lion": dict(optim="lion_32bit"),
    "lion-8bit": dict(optim="lion_8bit"),
    "lion-8bit-codes": dict(optim="lion_8bit", adam_beta2=0.0),  # m = g
    "ademamix": dict(optim="ademamix", optim_args="alpha=3.0,beta3=0.99,t_alpha=4,t_beta3=5"),
    "ademamix-8bit": dict(optim="paged_ademamix_8bit"),
    "adafactor": dict(optim="adafactor"),
    "sgd": dict(optim="sgd"),
    "sgd-momentum": dict(optim="sgd", optim_args="momentum=0.9,dampening=0.2"),
    "sgd-nesterov": dict(optim="sgd", optim_args="momentum=0.9,nesterov=True"),
    "rmsprop": dict(optim="rmsprop"),
    "rmsprop-centered": dict(optim="rmsprop", optim_args="alpha=0.9,momentum=0.5,centered=True,eps=1e-6"),
    "rmsprop-bnb": dict(optim="rmsprop_bnb"),
    "rmsprop-bnb-8bit": dict(optim="rmsprop_bnb_8bit"),
    "adagrad": dict(optim="adagrad", optim_args="lr_decay=0.1,eps=1e-6"),
}  # fmt: skip


def scatter(count: int, seed: int) -> torch.Tensor:
    """Numbers in (-1, 1) over four decades, exact in float32; optimizers.test.ts makes the same."""
    i = torch.arange(count, dtype=torch.int64)
    return (((i * 7919 + seed * 104729) % 2003 - 1001).double() / 1024 * 2.0 ** -(i % 13)).float()


def quantize(values: torch.Tensor, code: torch.Tensor, absmax_out: torch.Tensor, out: torch.Tensor, block: int) -> None:
    """The published algorithm, as the CUDA kernels have it: nearest value, and no negative momentum becomes zero.

    The library's own CPU quantizer looks codes up in a coarse table and misses the nearest in up to 3 % of the elements.
    """
    blocks = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % block)).view(-1, block)
    absmax = blocks.abs().amax(1)
    scaled = (blocks * (1 / absmax.clamp(min=1e-38)).unsqueeze(1)).flatten()[: values.numel()]
    codes = torch.bucketize(scaled, (code[:-1] + code[1:]) / 2)
    if code[0] < 0:
        codes -= ((values.flatten() < 0) & (code[codes] == 0)).long()
    out.copy_(codes.to(torch.uint8).view_as(out))
    absmax_out.copy_(absmax)


def execute(name: str, spec: dict, tensors: dict) -> dict:
    args = TrainingArguments(output_dir="unused", learning_rate=LR, use_cpu=True, **{**BETAS, **spec})
    make, kwargs = Trainer.get_optimizer_cls_and_kwargs(args)
    weights = {key: torch.nn.Parameter(scatter(torch.Size(shape).numel(), i).view(shape)) for i, (key, shape) in enumerate(SHAPES.items())}
    decayed, plain = weights.values()
    optimizer = make([{"params": [decayed], "weight_decay": DECAY}, {"params": [plain], "weight_decay": 0.0}], **kwargs)
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR / step
        for i, weight in enumerate(weights.values()):
            weight.grad = scatter(weight.numel(), 10 * step + i).view_as(weight)
        optimizer.step()
    for key, weight in weights.items():
        tensors[f"{name}/{key}"] = weight.detach()[::4].clone()  # every fourth row
    for key, value in optimizer.state[decayed].items():
        if key in ("state1", "state2", "absmax1", "absmax2") and optimizer.state[decayed]["state1"].dtype == torch.uint8:
            tensors[f"{name}/{key}"] = value.clone()
    return {**BETAS, **spec}


def make() -> None:
    cpu._quant_blockwise_fp32_direct = quantize
    tensors: dict[str, torch.Tensor] = {
        "dynamic-map/signed": bitsandbytes.functional.create_dynamic_map(signed=True),
        "dynamic-map/unsigned": bitsandbytes.functional.create_dynamic_map(signed=False),
    }
    cases = {name: execute(name, spec, tensors) for name, spec in CASES.items()}
    write_json(GOLDENS / "optimizers.json", {"steps": STEPS, "learning_rate": LR, "weight_decay": DECAY, "shapes": SHAPES, "cases": cases})
    save_file(tensors, GOLDENS / "optimizers.safetensors")
