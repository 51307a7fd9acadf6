"""Every key of every supported config class, with its default: what a page must read, prove irrelevant, or refuse."""

from transformers import CONFIG_MAPPING

from .paths import GOLDENS, write_json
from .variants import MULTIMODAL, VARIANTS

# What the folder of a model says about the file rather than about the model.
PROVENANCE = {"architectures", "transformers_version", "_name_or_path", "model_type"}


def keys(config) -> dict:
    values = config.to_dict()
    return {key: values[key] for key in sorted(values) if key not in PROVENANCE}


def make() -> None:
    kinds = sorted({kind for kind, _ in VARIANTS.values()})
    found = {kind: keys(CONFIG_MAPPING[kind]()) for kind in kinds}
    for kind in MULTIMODAL:
        config = CONFIG_MAPPING[kind]()
        text = config.get_text_config()
        found[kind].pop("vision_config")
        found[kind]["text_config"] = {"model_type": text.model_type, **keys(text)}
    write_json(GOLDENS / "config-keys.json", found)
