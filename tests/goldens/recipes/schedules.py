"""The learning rate after 0, 1, 2, … scheduler steps, for every lr_scheduler_type and keyword."""

import torch
from transformers import get_scheduler

from .paths import GOLDENS, write_json

TOTAL, WARMUP, LR = 20, 4, 2e-3
METRICS = [3.0, 2.5, 2.4, 2.45, 2.5, 2.41, 2.4, 2.39, 2.39, 2.39, 2.39, 2.6, 2.7, 2.3, 2.2, 2.2, 2.2, 2.2]

# (lr_scheduler_type, warm-up steps, lr_scheduler_kwargs)
CURVES = [
    ("linear", 0, {}), ("linear", WARMUP, {}), ("linear", 25, {}),
    ("cosine", 0, {}), ("cosine", WARMUP, {}), ("cosine", WARMUP, {"num_cycles": 1.5}),
    ("cosine_with_restarts", WARMUP, {}), ("cosine_with_restarts", WARMUP, {"num_cycles": 3}),
    ("polynomial", WARMUP, {}), ("polynomial", WARMUP, {"lr_end": 1e-4, "power": 2.0}),
    ("constant", WARMUP, {}), ("constant_with_warmup", WARMUP, {}),
    ("inverse_sqrt", 0, {}), ("inverse_sqrt", WARMUP, {}), ("inverse_sqrt", WARMUP, {"timescale": 7}),
    ("cosine_with_min_lr", WARMUP, {"min_lr": 5e-4}), ("cosine_with_min_lr", WARMUP, {"min_lr_rate": 0.1, "num_cycles": 1.0}),
    ("cosine_warmup_with_min_lr", WARMUP, {"min_lr": 5e-4}),
    ("cosine_warmup_with_min_lr", WARMUP, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.3}),
    ("cosine_warmup_with_min_lr", 0, {"min_lr_rate": 0.1}),
    *[
        ("warmup_stable_decay", WARMUP, {"num_decay_steps": 6, "warmup_type": warm, "decay_type": decay, "min_lr_ratio": 0.1})
        for warm, decay in [("linear", "cosine"), ("cosine", "linear"), ("1-sqrt", "1-sqrt")]
    ],
    ("warmup_stable_decay", WARMUP, {"num_decay_steps": 6}),
    ("warmup_stable_decay", WARMUP, {"num_decay_steps": 6, "num_stable_steps": 5, "num_cycles": 1.0}),
]  # fmt: skip

# Stepped with a metric at each evaluation.
METRIC_CURVES = [
    ("reduce_lr_on_plateau", {}), ("reduce_lr_on_plateau", {"patience": 1, "factor": 0.5, "cooldown": 1}),
    ("reduce_lr_on_plateau", {"patience": 0, "factor": 0.5, "threshold": 0.05, "threshold_mode": "abs", "min_lr": 1e-3}),
    ("reduce_lr_on_plateau", {"mode": "max", "patience": 2}),
    ("greedy", {}), ("greedy", {"patience": 1, "min_lr": 1e-5, "max_lr": 1e-2, "factor": 0.5}),
    ("greedy", {"patience": 0, "min_lr": 1e-5, "max_lr": 1e-2, "smooth": True, "window_size": 3, "warmup": 2, "cooldown": 1}),
]  # fmt: skip


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)


def curve(kind: str, warmup: int, kwargs: dict) -> dict:
    opt = optimizer()
    scheduler = get_scheduler(kind, opt, num_warmup_steps=warmup, num_training_steps=TOTAL, scheduler_specific_kwargs=kwargs)
    rates = [opt.param_groups[0]["lr"]]
    for _ in range(TOTAL):
        opt.step()
        scheduler.step()
        rates.append(opt.param_groups[0]["lr"])
    return {"type": kind, "learning_rate": LR, "warmup_steps": warmup, "max_steps": TOTAL, "kwargs": kwargs, "rates": rates}


def metric_curve(kind: str, kwargs: dict) -> dict:
    opt = optimizer()
    scheduler = get_scheduler(kind, opt, scheduler_specific_kwargs=kwargs)
    rates = [opt.param_groups[0]["lr"]]
    for metric in METRICS:
        opt.step()
        scheduler.step(metric)
        rates.append(opt.param_groups[0]["lr"])
    return {"type": kind, "learning_rate": LR, "kwargs": kwargs, "metrics": METRICS, "rates": rates}


def make() -> None:
    write_json(
        GOLDENS / "schedules.json",
        {"by_step": [curve(*case) for case in CURVES], "by_metric": [metric_curve(*case) for case in METRIC_CURVES]},
    )
