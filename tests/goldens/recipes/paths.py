"""Where the fixtures and goldens lie, and how JSON is written."""

import json
from pathlib import Path

GOLDENS = Path(__file__).resolve().parent.parent
FIXTURES = GOLDENS.parent / "fixtures"
DATA = FIXTURES / "data"


def write_json(path: Path, value) -> None:
    """Compact, full precision (Python's repr of a float reads back to the same double)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
