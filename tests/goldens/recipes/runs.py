"""Whole training runs with TRL's SFTTrainer: the per-step log, the order of the examples, and the final weights."""

import datasets
import torch
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from trl import SFTTrainer

from .paths import GOLDENS, write_json
from .rng import next_draw
from .sft import build, load_model, read_rows

LORA = dict(r=8, lora_alpha=16, target_modules="all-linear")
SNIPPET = dict(
    per_device_train_batch_size=2, gradient_accumulation_steps=8, num_train_epochs=3, learning_rate=2e-4,
    max_grad_norm=0.3, optim="adamw_torch", lr_scheduler_type="linear",
)  # fmt: skip
# An adapter on the head too; TRL's default loss, chunked_nll, cannot be had with it.
HEAD = dict(r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["q_proj", "v_proj", "down_proj", "lm_head"])
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
HOT = {**SNIPPET, "learning_rate": 1e-2, "gradient_accumulation_steps": 4}
FULL = dict(
    per_device_train_batch_size=4, gradient_accumulation_steps=2, num_train_epochs=3, learning_rate=1e-3,
    weight_decay=0.1, lr_scheduler_type="cosine", warmup_steps=3, optim="adamw_torch", max_grad_norm=1.0,
)  # fmt: skip


def run(model="tiny-llama", data="prompt-completion", lora=None, dtype="float32", keep=False, quantization=None, **args) -> dict:
    quantized = {"quantization": quantization} if quantization else {}
    return {"model": model, "data": data, "lora": lora, **quantized, "dtype": dtype, "keep": keep, "args": {"seed": 42, **args}}


RUNS = {
    "snippet-lora": run(lora=LORA, keep=True, **SNIPPET),
    "snippet-lora-hot": run(lora=LORA, keep=True, **HOT),
    "snippet-lora-fused": run(lora=LORA, **{**HOT, "optim": "adamw_torch_fused"}),
    "snippet-lora-paged": run(lora=LORA, **{**HOT, "optim": "paged_adamw_32bit"}),
    # Two bands rather than goldens: CPU autocast rounds in ways that another engine need not repeat.
    "snippet-lora-bf16-autocast": run(lora=LORA, **{**HOT, "bf16": True}),
    "snippet-lora-bf16-weights": run(model="tiny-llama-bf16", lora=LORA, dtype="bfloat16", **{**HOT, "bf16": True}),
    # bf16 weights raised to float32 arithmetic, which is exact: a golden.
    "snippet-lora-bf16-upcast": run(model="tiny-llama-bf16", lora=LORA, **HOT),
    "full-ft": run(data="text", **{**FULL, "seed": 7}),
    "full-ft-tied": run(model="tiny-llama-tied", data="text", **{**FULL, "seed": 3, "max_grad_norm": 0.5, "lr_scheduler_type": "linear"}),
    "max-steps-uneven": run(
        lora=LORA, **{**HOT, "max_steps": 8, "warmup_steps": 2, "seed": 11, "num_train_epochs": 1}
    ),
    "max-steps-constant-warmup-ratio": run(
        lora=LORA, **{**HOT, "max_steps": 7, "warmup_steps": 0.3, "lr_scheduler_type": "constant_with_warmup"}
    ),
    "messages-assistant-only": run(
        data="messages", lora=LORA, assistant_only_loss=True, **{**HOT, "lr_scheduler_type": "constant", "num_train_epochs": 2}
    ),
    "messages": run(data="messages", lora=LORA, **{**HOT, "lr_scheduler_type": "cosine", "warmup_steps": 0.2, "seed": 5}),
    "lora-dropout": run(lora={**LORA, "lora_dropout": 0.1}, keep=True, **{**HOT, "num_train_epochs": 2}),
    "lora-dropout-head": run(lora=HEAD, loss_type="nll", **{**HOT, "num_train_epochs": 2}),
    "lora-dropout-head-tied": run(
        model="tiny-llama-tied", lora={**HEAD, "target_modules": ["lm_head"]}, loss_type="nll", pad_to_multiple_of=16,
        label_smoothing_factor=0.1, neftune_noise_alpha=5.0, **{**HOT, "num_train_epochs": 2},
    ),
    "data-seed": run(lora=LORA, data_seed=1, **{**HOT, "num_train_epochs": 2}),
    "drop-last": run(lora=LORA, dataloader_drop_last=True, **{**HOT, "num_train_epochs": 2}),
    "fractional-epochs": run(lora=LORA, **{**HOT, "num_train_epochs": 1.5}),
    "no-clip": run(lora=LORA, **{**HOT, "max_grad_norm": 0.0, "num_train_epochs": 1}),
    "logging-steps-4": run(lora=LORA, logging_first_step=True, **{**HOT, "logging_steps": 4}),
    "sequential": run(lora=LORA, train_sampling_strategy="sequential", **{**HOT, "num_train_epochs": 1}),
    "group-by-length": run(lora=LORA, train_sampling_strategy="group_by_length", **{**HOT, "num_train_epochs": 2}),
    "qlora-nf4": run(lora=LORA, quantization=NF4, **HOT),
    "qlora-nf4-double": run(lora=LORA, quantization={**NF4, "bnb_4bit_use_double_quant": True}, **HOT),
    "qlora-fp4-bf16-weights": run(model="tiny-llama-bf16", lora=LORA, quantization={"load_in_4bit": True}, **HOT),
    "lora-int8": run(lora=LORA, quantization={"load_in_8bit": True}, **HOT),
    "lora-patterns": run(
        lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True,
                  rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 32}),
        **{**HOT, "num_train_epochs": 1},
    ),
    "label-smoothing": run(lora=LORA, loss_type="nll", label_smoothing_factor=0.1, **{**HOT, "num_train_epochs": 1}),
    "neftune": run(lora=LORA, neftune_noise_alpha=5.0, **{**HOT, "num_train_epochs": 1}),
    "neftune-dropout-padded": run(
        lora={**LORA, "lora_dropout": 0.1}, neftune_noise_alpha=5.0, pad_to_multiple_of=16,
        include_num_input_tokens_seen="all", **{**HOT, "num_train_epochs": 1},
    ),
    "shuffle-dataset": run(
        lora=LORA, shuffle_dataset=True, train_sampling_strategy="sequential", include_num_input_tokens_seen="non_padding",
        **{**HOT, "num_train_epochs": 1},
    ),
    "packing": run(data="text", lora=LORA, packing=True, max_length=96, **{**HOT, "gradient_accumulation_steps": 2}),
    "packing-completion": run(
        lora=LORA, packing=True, max_length=128, shuffle_dataset=True,
        **{**HOT, "gradient_accumulation_steps": 2, "num_train_epochs": 2},
    ),
    "packing-split": run(
        data="text", lora=LORA, packing=True, packing_strategy="bfd_split", max_length=40, shuffle_dataset=True,
        **{**HOT, "gradient_accumulation_steps": 2, "num_train_epochs": 1},
    ),
    # Short rows of long prompts: some have no label, and so have whole windows.
    "packing-without-labels": run(
        lora={**LORA, "lora_dropout": 0.1}, packing=True, packing_strategy="bfd_split", max_length=10,
        **{**HOT, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": 30, "weight_decay": 0.1},
    ),
    "packing-neftune-dropout": run(
        data="text", lora={**LORA, "lora_dropout": 0.1}, packing=True, max_length=96, neftune_noise_alpha=5.0,
        pad_to_multiple_of=16, include_num_input_tokens_seen="all", **{**HOT, "gradient_accumulation_steps": 2},
    ),
    "padding-free-neftune-dropout": run(
        lora={**LORA, "lora_dropout": 0.1}, padding_free=True, max_length=None, neftune_noise_alpha=5.0,
        **{**HOT, "num_train_epochs": 1},
    ),
}  # fmt: skip


class RecordingTrainer(SFTTrainer):
    """Notes the state of the global generator before each micro-batch's forward, and what the micro-batch held."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.micro = getattr(self, "micro", [])
        tokens = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        self.micro.append({"rng_next": str(next_draw()), "tokens": int(tokens), "num_items": int(num_items_in_batch)})
        return super().training_step(model, inputs, num_items_in_batch)


def train_recording_order(trainer) -> list[list[int]]:
    """Trains, and returns the row numbers of every micro-batch that was fetched."""
    fetched, plain = [], datasets.Dataset.__getitems__

    def noting(self, keys):
        fetched.append([int(key) for key in keys])
        return plain(self, keys)

    datasets.Dataset.__getitems__ = noting
    try:
        trainer.train()
    finally:
        datasets.Dataset.__getitems__ = plain
    return fetched


def steady(record: dict) -> dict:
    """A log record without what the clock made."""
    return {key: value for key, value in record.items() if not key.endswith(("_runtime", "_per_second", "_preparation_time"))}


def final_weights(model) -> dict[str, torch.Tensor]:
    named = {name: param.detach() for name, param in model.named_parameters() if param.requires_grad}
    return {name.replace(".default.weight", ".weight"): value.float().contiguous() for name, value in named.items()}


def execute(name: str, spec: dict) -> dict:
    model = load_model(spec["model"], spec["args"]["seed"], spec["lora"], getattr(torch, spec["dtype"]), spec.get("quantization"))
    trainer = build(model, read_rows(spec["data"]), trainer_class=RecordingTrainer, **spec["args"])
    if (spec["lora"] or {}).get("loraplus_lr_ratio"):
        args = trainer.args
        trainer.optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=args.learning_rate, loraplus_lr_ratio=spec["lora"]["loraplus_lr_ratio"],
            loraplus_weight_decay=args.weight_decay,
        )  # fmt: skip
    before = str(next_draw())
    fetched = train_recording_order(trainer)
    weights = final_weights(model)
    if spec.pop("keep"):
        save_file(weights, GOLDENS / "runs" / f"{name}.safetensors")
    return {
        **spec,
        "data": f"{spec['data']}.jsonl",
        "max_steps": trainer.state.max_steps,
        "log_history": [steady(record) for record in trainer.state.log_history],
        "rng_next_after_init": before,
        # accelerate fetches one batch ahead, so a run that stops inside an epoch has fetched more than it used
        "micro_batches": [{"rows": rows, **micro} for rows, micro in zip(fetched, trainer.micro, strict=False)],
        "final": {
            key: {"sum": value.double().sum().item(), "norm": value.double().norm().item()} for key, value in weights.items()
        },
    }


def make() -> None:
    (GOLDENS / "runs").mkdir(exist_ok=True)
    for name, spec in RUNS.items():
        print("  ", name, flush=True)
        write_json(GOLDENS / "runs" / f"{name}.json", execute(name, dict(spec)))
