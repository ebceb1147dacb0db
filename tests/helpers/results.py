"""Run directories for the report, written without training."""

import json
from pathlib import Path
from typing import Any

from gptladder.runs.published import published


def run(
    directory: Path, rung: str, *, seed: int = 1337, shift: float = 0.0, name: str | None = None, **changes: Any
) -> Path:
    """Write the directory of a finished run, with the published curve plus ``shift``; ``name`` is another rung's."""
    curve = [
        {"step": step, "train_estimate": train + shift, "val_estimate": val + shift, "val_loss": val + shift}
        for step, train, val in published()[rung]["curve"]
    ]
    last = curve[-1]
    result = {
        **{"status": "finished", "error": None, "model": name or rung, "seed": seed, "params": 7553, **last},
        "val_bits_per_char": last["val_loss"] * 1.4427,
        "best": {"step": last["step"], "val_loss": last["val_loss"]},
        "curve": curve,
        "published": {
            **{"step": last["step"], "train": last["train_estimate"] - shift, "val": last["val_estimate"] - shift},
            **{"max_abs_diff": abs(shift), "worst_abs_diff": abs(shift), "tolerance": 0.0},
            "verdict": "DRIFT" if shift else "MATCH",
        },
        **{"tokens": 256 * last["step"], "train_seconds": 9.1, "wall_seconds": 14.2, "tokens_per_second": 140631},
        "sample": "ROMEO:\nwhat light",
        "config_hash": f"{name or rung}-{seed}-{shift}",
        **changes,
    }
    rung = name or rung
    path = directory / f"{rung}-seed{seed}"
    (path / ".hydra").mkdir(parents=True)
    (path / "result.json").write_text(json.dumps(result))
    (path / ".hydra" / "config.yaml").write_text(f"seed: {seed}\nrung: {rung}\nmodel:\n  name: {rung}\n")
    (path / ".hydra" / "overrides.yaml").write_text(f"- model={rung}\n- seed={seed}\n")
    return path
