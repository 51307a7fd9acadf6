"""eval_loss for several batch sizes, a run that evaluates, parameter groups, and what a checkpoint holds."""

import json
import tempfile
from pathlib import Path

import datasets
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

from .paths import FIXTURES, GOLDENS, write_json
from .runs import HOT, LORA, steady
from .sft import QUIET, build, load_model, read_rows


def eval_loss(batch_size: int) -> dict:
    rows = read_rows("prompt-completion")
    trainer = build(load_model("tiny-llama"), rows, eval_rows=rows, per_device_eval_batch_size=batch_size)
    return {"batch_size": batch_size, **steady(trainer.evaluate())}


def evaluating_run() -> dict:
    args = {**HOT, "seed": 42, "eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 4, "eval_on_start": True}
    trainer = build(
        load_model("tiny-llama", 42, LORA), read_rows("prompt-completion"), eval_rows=read_rows("prompt-completion")[:7], **args
    )
    trainer.train()
    return {
        "model": "tiny-llama", "data": "prompt-completion.jsonl", "eval_rows": 7, "lora": LORA, "args": args,
        "log_history": [steady(record) for record in trainer.state.log_history],
    }  # fmt: skip


def parameter_groups() -> dict:
    out = {}
    for name in ("tiny-llama", "tiny-llama-tied", "tiny-llama-bias"):
        trainer = build(load_model(name), read_rows("text"), weight_decay=0.1)
        optimizer = trainer.create_optimizer()
        names = {id(param): key for key, param in trainer.model.named_parameters()}
        out[name] = [
            {"weight_decay": group["weight_decay"], "params": [names[id(param)] for param in group["params"]]}
            for group in optimizer.param_groups
        ]
    return out


def checkpoint() -> dict:
    """Names of the files and the trainer_state.json of the last checkpoint of a two-epoch run saved by epoch."""
    args = {**HOT, "seed": 42, "num_train_epochs": 2, "save_strategy": "epoch"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_model("tiny-llama", 42, LORA),
            args=SFTConfig(output_dir=folder, **{**QUIET, **args}),
            train_dataset=datasets.Dataset.from_list(read_rows("prompt-completion")),
            processing_class=AutoTokenizer.from_pretrained(FIXTURES / "tiny-llama"),
        )
        trainer.train()
        folders = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
        last = Path(folder) / folders[-1]
        state = json.loads((last / "trainer_state.json").read_text())
        return {"args": args, "lora": LORA, "folders": folders, "files": sorted(p.name for p in last.iterdir()), "trainer_state": state}


def make() -> None:
    write_json(GOLDENS / "eval-loss.json", {"model": "tiny-llama", "data": "prompt-completion.jsonl", "by_batch_size": [eval_loss(n) for n in (1, 2, 5, 7, 32)]})
    write_json(GOLDENS / "eval-run.json", evaluating_run())
    write_json(GOLDENS / "parameter-groups.json", parameter_groups())
    write_json(GOLDENS / "checkpoint.json", checkpoint())
