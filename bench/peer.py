"""The same run with Python's trainers, as a user would write it: `python peer.py run.json`.

run.json: {trainer: "trl" | "transformers", model, dataset, columns, lora | null, max_length, training_args}, written by the harness.
"""

import json
import sys

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
    set_seed,
)


def read_rows(run: dict) -> Dataset:
    with open(run["dataset"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Dataset.from_list([{ours: row[theirs] for ours, theirs in run["columns"].items()} for row in rows])


def trl_trainer(run: dict, model, tokenizer, args: dict):
    """SFTTrainer with its defaults; it tokenises, masks the prompt, and makes logits at labelled positions only."""
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=model,
        args=SFTConfig(max_length=run["max_length"], **args),
        train_dataset=read_rows(run),
        processing_class=tokenizer,
    )


def transformers_trainer(run: dict, model, tokenizer, args: dict):
    """Trainer on rows tokenised beforehand, padded to the longest of each batch."""

    def tokenise(row: dict) -> dict:
        prompt = tokenizer(row["prompt"])["input_ids"]
        whole = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"]
        labels = [-100] * len(prompt) + whole[len(prompt) :]
        return {"input_ids": whole[: run["max_length"]], "labels": labels[: run["max_length"]]}

    return Trainer(
        model=model,
        args=TrainingArguments(**args),
        train_dataset=read_rows(run).map(tokenise, remove_columns=list(run["columns"])),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    args = {
        **run["training_args"],
        "use_cpu": True,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
    }
    set_seed(args["seed"])
    model = AutoModelForCausalLM.from_pretrained(run["model"], dtype=torch.float32)
    if run["lora"]:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **run["lora"]))
    build = {"trl": trl_trainer, "transformers": transformers_trainer}[run["trainer"]]
    trainer = build(run, model, AutoTokenizer.from_pretrained(run["model"]), args)
    trainer.train()
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    main()
