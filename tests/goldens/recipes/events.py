"""The order in which a Trainer tells its callbacks of events, with the step and the flags that ask for more."""

import json
import tempfile
from pathlib import Path

import datasets
from transformers import AutoTokenizer, TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback
from trl import SFTConfig, SFTTrainer

from .paths import FIXTURES, GOLDENS, write_json
from .runs import HOT, LORA
from .sft import QUIET, load_model, read_rows

EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]
SHORT = {**HOT, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 2}
# 21 rows, batches of 4, 2 accumulated: 3 updates an epoch, the last of one batch.
CASES = {
    "plain": {},
    "save-and-log": {"logging_steps": 2, "save_strategy": "steps", "save_steps": 2},
    "by-epoch": {"logging_strategy": "epoch", "save_strategy": "epoch"},
    "evaluate": {
        "logging_steps": 3, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 2,
        "eval_on_start": True, "per_device_eval_batch_size": 4,
    },
    "evaluate-by-epoch": {"eval_strategy": "epoch", "logging_strategy": "epoch", "save_strategy": "epoch", "per_device_eval_batch_size": 8},
    "max-steps": {"max_steps": 4, "save_strategy": "steps", "save_steps": 3},
}  # fmt: skip
# What a callback sets at the first event of a name, and what the loop makes of it.
WISHES = {
    "wish-save": ("on_step_end", 2, "should_save"),
    "wish-log": ("on_step_end", 2, "should_log"),
    "wish-epoch-stop": ("on_step_end", 2, "should_epoch_stop"),
    "wish-training-stop": ("on_step_end", 2, "should_training_stop"),
    "wish-stop-in-substep": ("on_substep_end", 1, "should_training_stop"),
}


def recorder(wish=None):
    told: list = []

    def handler(event):
        def told_of(self, args, state, control, **kwargs):
            told.append([event, state.global_step])
            if wish and wish[0] == event and wish[1] == state.global_step:
                setattr(control, wish[2], True)

        return told_of

    return told, type("Recorder", (TrainerCallback,), {event: handler(event) for event in EVENTS})()


def run(folder: str, args: dict, wish=None, resume: str | None = None) -> list:
    told, callback = recorder(wish)
    evaluates = args.get("eval_strategy", "no") != "no"
    trainer = SFTTrainer(
        model=load_model("tiny-llama", 42, LORA),
        args=SFTConfig(output_dir=folder, **{**QUIET, "logging_steps": 100, **SHORT, "seed": 42, **args}),
        train_dataset=datasets.Dataset.from_list(read_rows("prompt-completion")),
        eval_dataset=datasets.Dataset.from_list(read_rows("prompt-completion")[:7]) if evaluates else None,
        processing_class=AutoTokenizer.from_pretrained(FIXTURES / "tiny-llama"),
        callbacks=[callback],
    )
    assert type(trainer.callback_handler.callbacks[0]) is DefaultFlowCallback
    trainer.train(resume_from_checkpoint=resume)
    return told


def make() -> None:
    out = {"model": "tiny-llama", "data": "prompt-completion.jsonl", "eval_rows": 7, "lora": LORA, "args": SHORT, "cases": {}}
    for name, args in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            out["cases"][name] = {"args": args, "events": run(folder, args)}
    for name, wish in WISHES.items():
        with tempfile.TemporaryDirectory() as folder:
            out["cases"][name] = {"args": {}, "wish": wish, "events": run(folder, {}, wish)}
    with tempfile.TemporaryDirectory() as folder:
        args = {"save_strategy": "steps", "save_steps": 2}
        run(folder, args)
        resumed = run(folder, args, resume=str(Path(folder) / "checkpoint-2"))
        out["cases"]["resumed"] = {"args": args, "from": 2, "events": resumed}
    write_json(GOLDENS / "events.json", json.loads(json.dumps(out)))
