"""Runs recorded by version 0.1: their configs and checkpoints, as this version writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Config keys and values of version 0.1 that have other names now.
RENAMED_KEYS = {
    "model.rotary": "model.rope",
    "model.tied": "model.tie_weights",
    "model.norm_gain": "model.norm_affine",
    "model.pairs": "model.bigram_embedding",
    "model.n_previous": "model.n_prev_tokens",
    "model.fused": "model.sdpa",
    "scheduler.final_fraction": "scheduler.min_lr_ratio",
    "data.length_warmup": "data.sequence_length_warmup",
    "data.overfit_blocks": "data.overfit_windows",
    "init_from_vocabulary": "unknown_characters",
}
RENAMED_VALUES = {
    ("model.init", "lecture"): "torch_default",
    ("model.init", "zero"): "zero_residual",
    ("unknown_characters", "refuse"): "error",
    ("unknown_characters", "union"): "extend",
    ("ablation", "no_pairs"): "no_bigram_embedding",
    ("ablation", "no_previous"): "no_prev_tokens",
    ("ablation", "no_rotary"): "no_rope",
    ("ablation", "with_gain"): "norm_affine",
    ("ablation", "plain_relu"): "relu",
    ("ablation", "full_precision"): "fp32",
    ("ablation", "lecture_init"): "torch_init",
}
RENAMED_TARGETS = {
    "gptladder.data.TextData": "gptladder.data.datamodule.TextDataModule",
    "gptladder.tokenizer.CharTokenizer.from_text": "gptladder.data.tokenizer.CharTokenizer.from_text",
    "gptladder.byte_pair.BytePairTokenizer.from_text": "gptladder.data.bpe.BPETokenizer.from_text",
    "gptladder.gpt2.GPT2Tokenizer.from_text": "gptladder.data.gpt2_tokenizer.GPT2Tokenizer.from_text",
    "gptladder.optimizer.AdamW": "torch.optim.AdamW",
    "gptladder.optimizer.adamw_decaying_matrices": "gptladder.training.optimizers.adamw_with_decay_groups",
    "gptladder.optimizer.muon": "gptladder.training.optimizers.muon",
    "gptladder.schedule.cosine": "gptladder.training.schedulers.cosine",
    "gptladder.schedule.linear": "gptladder.training.schedulers.linear",
    "gptladder.hardware.Hardware": "gptladder.training.hardware.Hardware",
    "gptladder.loggers.TensorBoard": "gptladder.training.loggers.ResumableTensorBoardLogger",
    "gptladder.loggers.CSV": "gptladder.training.loggers.ResumableCSVLogger",
    "gptladder.callbacks.progress.Progress": "gptladder.training.callbacks.progress.Progress",
    "gptladder.callbacks.samples.Samples": "gptladder.training.callbacks.text_samples.TextSamples",
    "gptladder.callbacks.attention_maps.AttentionMaps": "gptladder.training.callbacks.attention_maps.AttentionMaps",
    "gptladder.callbacks.stopping.Stopping": "gptladder.training.callbacks.graceful_stop.GracefulStop",
    "gptladder.callbacks.anomaly.Anomaly": "gptladder.training.callbacks.nonfinite.NonFiniteOutputs",
    "gptladder.callbacks.lr_find.FindLR": "gptladder.training.callbacks.lr_finder.LRFinder",
}
# What the targets of version 0.1 are the choice of; a checkpoint of that version does not name its choices.
_CHOICE_OF_TARGET = {
    "CharTokenizer": "char",
    "BytePairTokenizer": "bpe",
    "GPT2Tokenizer": "gpt2",
    "AdamW": "adamw",
    "adamw_decaying_matrices": "adamw_matrices",
    "muon": "muon",
    "cosine": "cosine",
    "linear": "linear",
}


def is_old_config(config: Mapping[str, Any]) -> bool:
    """Whether a config was recorded by version 0.1."""
    return isinstance(config, Mapping) and "init_from_vocabulary" in config


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of version 0.1 under today's names; the order of its keys is kept."""
    return {"fast": "auto", **_rename(config, "")}


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of version 0.1 as this version saves it.

    Version 0.1 gave Lightning several steps as one batch, and stepped the optimizer itself. Its counters are rebuilt
    from the number of steps.
    """
    upgraded = {
        **checkpoint,
        "gptladder": _upgrade_metadata(checkpoint["gptladder"], checkpoint["state_dict"]),
        "state_dict": upgrade_weights(checkpoint["state_dict"], checkpoint["gptladder"]["config"]["model"]),
    }
    step = checkpoint.get("global_step", 0)
    n_batches = step * checkpoint["gptladder"]["config"]["trainer"]["accumulate_grad_batches"]
    if "TextData" in upgraded:
        upgraded["TextDataModule"] = {**upgraded.pop("TextData"), "n_drawn": n_batches}
    if "loops" in upgraded:
        scheduled = step if checkpoint.get("lr_schedulers") else 0
        upgraded["loops"] = _upgrade_loops(checkpoint["loops"], step, n_batches, scheduled)
    if "Record" in upgraded.get("callbacks", {}):
        states = dict(upgraded["callbacks"])
        upgraded["callbacks"] = {"ResultWriter": states.pop("Record"), **states}
    return upgraded


def _upgrade_metadata(metadata: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a run, with the choices of its groups and the arguments of its network."""
    old = metadata["config"]
    config = upgrade_config(old)
    choices = {group: _old_choice(old, group) for group in ("tokenizer", "optimizer", "scheduler")}
    config["choices"] = {**choices, "model": old["rung"], "scheduler": choices["scheduler"] or "constant"}
    arguments = {key: value for key, value in config["model"].items() if not key.startswith("_")}
    kind = str(old["model"].get("_target_", "")).rpartition(".")[2].lower()
    suffixes = ("token.weight", "table.weight")  # of a GPT, and of a bigram
    tables = [tensor for suffix in suffixes for name, tensor in weights.items() if name.endswith(suffix)]
    net = {"kind": kind, **arguments, "vocab_size": len(tables[0])}
    return {**metadata, "config": config, "net": net}


def upgrade_weights(weights: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a network of version 0.1 under today's names, in the same order.

    Args:
        weights: by name, with or without the prefix ``net.``.
        model: its config, in the names of version 0.1.
    """
    outer = "bigram" if model.get("pairs") else "previous"
    embeddings = [
        (r"embedding\.table\.", f"embedding.{outer}.table."),
        (r"embedding\.here\.table\.", "embedding.previous.table."),
    ]
    return {_weight_name(name, (*embeddings, *_WEIGHT_NAMES)): tensor for name, tensor in weights.items()}


_WEIGHT_NAMES = (
    (r"embedding\.(?:here\.)*token\.", "embedding.token."),
    (r"embedding\.(?:here\.)*position\.table\.", "embedding.position."),
    (r"layers\.(\d+)\.attention\.pre_norm\.", r"blocks.\1.norm1."),
    (r"layers\.(\d+)\.attention\.post_norm\.", r"blocks.\1.post_norm1."),
    (r"layers\.(\d+)\.feedforward\.pre_norm\.", r"blocks.\1.norm2."),
    (r"layers\.(\d+)\.feedforward\.post_norm\.", r"blocks.\1.post_norm2."),
    (r"layers\.(\d+)\.attention\.body\.(?:0\.)?query_key_value$", r"blocks.\1.attention.qkv.weight"),
    (r"layers\.(\d+)\.attention\.body\.(?:0\.)?value\.", r"blocks.\1.attention.value."),
    (r"layers\.(\d+)\.attention\.body\.1\.", r"blocks.\1.attention.projection."),
    (r"layers\.(\d+)\.feedforward\.body\.", r"blocks.\1.mlp."),
    (r"norm\.", "final_norm."),
    (r"head\.", "lm_head."),
)


def _weight_name(name: str, names: tuple[tuple[str, str], ...]) -> str:
    prefix, bare = ("net.", name[4:]) if name.startswith("net.") else ("", name)
    for pattern, replacement in names:
        renamed, n = re.subn(f"^{pattern}", replacement, bare)
        if n:
            return prefix + renamed
    return prefix + bare


def _rename(node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, value in node.items():
        name = RENAMED_KEYS.get(f"{prefix}{key}", f"{prefix}{key}").removeprefix(prefix)
        if isinstance(value, Mapping):
            value = _rename(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            value = RENAMED_VALUES.get((f"{prefix}{name}", value), value)
            value = RENAMED_TARGETS.get(value, value) if key == "_target_" else value
        renamed[name] = value
    return renamed


def _old_choice(config: Mapping[str, Any], group: str) -> str | None:
    target = (config.get(group) or {}).get("_target_", "")
    return next((choice for name, choice in _CHOICE_OF_TARGET.items() if name in target.split(".")), None)


def _upgrade_loops(loops: Mapping[str, Any], step: int, n_batches: int, scheduled: int) -> dict[str, Any]:
    """The counters of Lightning's loops after some steps."""

    def counters(n: int, *names: str) -> dict[str, dict[str, int]]:
        return {scope: dict.fromkeys(names, n) for scope in ("total", "current")}

    batches = counters(n_batches, "ready", "completed", "started", "processed")
    old = loops["fit_loop"]["epoch_loop.batch_progress"]["current"]
    if old["completed"] < old["processed"]:  # saved at the end of a step, before Lightning counted it as completed
        for scope in batches.values():
            scope["completed"] -= 1
    fit = {
        **loops["fit_loop"],
        # Lightning counts a step after its evaluation, with which a checkpoint is saved.
        "epoch_loop.state_dict": {"_batches_that_stepped": max(0, step - 1)},
        "epoch_loop.batch_progress": {**batches, "is_last_batch": False},
        "epoch_loop.scheduler_progress": counters(scheduled, "ready", "completed"),
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {
                "step": counters(step, "ready", "completed"),
                "zero_grad": counters(step, "ready", "completed", "started"),
            }
        },
        "epoch_loop.manual_optimization.optim_step_progress": counters(0, "ready", "completed"),
    }
    return {**loops, "fit_loop": fit}
