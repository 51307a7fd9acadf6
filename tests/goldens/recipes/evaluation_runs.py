"""Runs that evaluate: dropout between evaluations, learning rates that follow eval_loss, the best model, early stopping."""

import tempfile
from pathlib import Path

import datasets
from transformers import AutoTokenizer, EarlyStoppingCallback
from trl import SFTConfig, SFTTrainer

from .paths import FIXTURES, GOLDENS, write_json
from .runs import HOT, LORA, steady
from .sft import QUIET, load_model, read_rows

DROPOUT = {**LORA, "lora_dropout": 0.1}
# One batch holds all evaluation rows: then Python's eval_loss is the mean over tokens too.
WHOLE = {**HOT, "seed": 42, "per_device_eval_batch_size": 32}

# (lora, early stopping, arguments)
RUNS = {
    "dropout-epoch": (DROPOUT, None, {**WHOLE, "num_train_epochs": 2, "eval_strategy": "epoch", "eval_on_start": True}),
    "dropout-steps-delay": (
        DROPOUT, None, {**WHOLE, "num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 0.3, "eval_delay": 3}
    ),
    "plateau": (
        LORA, None,
        {**WHOLE, "eval_strategy": "steps", "eval_steps": 1, "lr_scheduler_type": "reduce_lr_on_plateau", "eval_on_start": True,
         "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 0.1}},
    ),
    "greedy": (
        LORA, None,
        {**WHOLE, "eval_strategy": "steps", "eval_steps": 1, "lr_scheduler_type": "greedy",
         "lr_scheduler_kwargs": {"patience": 1, "factor": 0.7, "min_lr": 1e-4, "max_lr": 0.1, "threshold": 0.3, "warmup": 1}},
    ),
    "early-stopping-best": (
        DROPOUT, {"early_stopping_patience": 2},
        {**WHOLE, "num_train_epochs": 6, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
         "load_best_model_at_end": True, "metric_for_best_model": "entropy", "save_total_limit": 1},
    ),
    "early-stopping-threshold": (
        LORA, {"early_stopping_patience": 1, "early_stopping_threshold": 0.25},
        {**WHOLE, "num_train_epochs": 8, "eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 2,
         "metric_for_best_model": "eval_loss"},
    ),
    "save-best": (
        LORA, None,
        {**WHOLE, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "best", "metric_for_best_model": "eval_entropy",
         "load_best_model_at_end": True},
    ),
}  # fmt: skip


def evaluating_run(lora: dict, stopping: dict | None, args: dict) -> dict:
    rows = read_rows("prompt-completion")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_model("tiny-llama", 42, lora),
            args=SFTConfig(output_dir=folder, **{**QUIET, **args}),
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset=datasets.Dataset.from_list(rows[:7]),
            processing_class=AutoTokenizer.from_pretrained(FIXTURES / "tiny-llama"),
            callbacks=[EarlyStoppingCallback(**stopping)] if stopping else [],
        )
        trainer.train()
        state = trainer.state
        best = state.best_model_checkpoint
        trained = [(name, p.detach().double()) for name, p in trainer.model.named_parameters() if p.requires_grad]
        return {
            "model": "tiny-llama", "data": "prompt-completion.jsonl", "eval_rows": 7, "lora": lora, "early_stopping": stopping,
            "args": args, "log_history": [steady(record) for record in state.log_history],
            "state": {
                "global_step": state.global_step, "best_metric": state.best_metric, "best_global_step": state.best_global_step,
                "best_model_checkpoint": best and Path(best).name,
            },
            "folders": sorted(path.name for path in Path(folder).iterdir() if path.is_dir()),
            "final": {name.replace(".default", ""): [p.sum().item(), p.norm().item()] for name, p in trained},
        }  # fmt: skip


def named_sets() -> dict:
    """Two evaluation sets by name; then, outside of the run, `evaluate` on them and `predict` on other rows."""
    rows = read_rows("prompt-completion")
    args = {**WHOLE, "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "rest_loss"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_model("tiny-llama", 42, DROPOUT),
            args=SFTConfig(output_dir=folder, **{**QUIET, **args}),
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset={"first": datasets.Dataset.from_list(rows[:7]), "rest": datasets.Dataset.from_list(rows[7:15])},
            processing_class=AutoTokenizer.from_pretrained(FIXTURES / "tiny-llama"),
        )
        before = trainer.evaluate()
        trainer.train()
        history = [steady(record) for record in trainer.state.log_history]
        after = trainer.evaluate()
        predicted = trainer.predict(trainer.eval_dataset["first"])
        return {
            "lora": DROPOUT, "args": args, "sets": {"first": [0, 7], "rest": [7, 15]}, "before": steady(before),
            "log_history": history, "after": steady(after), "predict": steady(predicted.metrics),
            "best_metric": trainer.state.best_metric,
        }  # fmt: skip


def make() -> None:
    write_json(GOLDENS / "eval-runs.json", {name: evaluating_run(*run) for name, run in RUNS.items()})
    write_json(GOLDENS / "eval-sets.json", named_sets())
