"""One place that builds TRL's SFTTrainer the way every golden needs it: on the CPU, in float32, quiet."""

import json
import logging
import tempfile
import warnings

import datasets
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from transformers.utils import logging as hf_logging
from trl import SFTConfig, SFTTrainer

from .paths import DATA, FIXTURES
from .quantization import reference_kernels
from .rng import next_draw

datasets.disable_progress_bars()
datasets.disable_caching()
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()
logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")

# Said aloud in every run, because SFTConfig's own defaults are bf16=True and gradient_checkpointing=True.
QUIET = dict(
    use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True, logging_steps=1,
)  # fmt: skip


def read_rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def load_model(name: str, seed: int = 42, lora: dict | None = None, dtype=torch.float32, quantization: dict | None = None):
    """set_seed, then the model, then LoRA: the order in which a TRL script draws random numbers."""
    set_seed(seed)
    before = next_draw()
    quantized = {"quantization_config": BitsAndBytesConfig(**quantization), "device_map": {"": "cpu"}} if quantization else {}
    with reference_kernels():
        model = AutoModelForCausalLM.from_pretrained(FIXTURES / name, dtype=dtype, **quantized)
    assert next_draw() == before, "loading weights drew random numbers"
    if lora is not None:
        own = {key: value for key, value in lora.items() if not key.startswith("loraplus_")}  # not LoraConfig's
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **own))
    if quantization:  # SFTTrainer, which asks here, would round the adapter to bf16; transformers' own Trainer does not
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    return model


def build(model, rows: list[dict], *, tokenizer: str = "tiny-llama", eval_rows=None, trainer_class=SFTTrainer, **args):
    with tempfile.TemporaryDirectory() as folder:
        return trainer_class(
            model=model,
            args=SFTConfig(output_dir=folder, **{**QUIET, **args}),
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset=datasets.Dataset.from_list(eval_rows) if eval_rows else None,
            processing_class=AutoTokenizer.from_pretrained(FIXTURES / tokenizer),
        )
