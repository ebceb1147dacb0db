"""How well a training uses its GPU: the share of its peak, and its memory."""

from __future__ import annotations

import re
from typing import Any

import lightning.pytorch as L
import torch

# Operations per second in bf16 on tensor cores that accumulate in fp32, dense (data sheets give twice that with
# "sparsity"), by the name that CUDA reports after "NVIDIA". From NVIDIA's data sheets and architecture whitepapers.
# Lightning's own table mixes dense and sparse values, and does not know the name of an H200.
PEAK_FLOPS = {
    r"B200": 2.25e15,
    r"H200": 989e12,
    r"H200 NVL": 835e12,
    r"H100 \d+GB HBM3": 989e12,
    r"H100 NVL": 835e12,
    r"H100 PCIe|H100 \d+GB HBM2e": 756e12,
    r"A100-.*|A100 .*": 312e12,
    r"A10": 125e12,
    r"L40S": 362e12,
    r"L4": 121e12,
    r"GeForce RTX 5090": 209.5e12,
    r"GeForce RTX 4090": 165.2e12,
    r"GeForce RTX 3090": 71e12,
}

KEYS = ("device", "peak_gpu_memory_mb", "mfu")


def peak_flops(name: str) -> float | None:
    """The peak of a GPU in bf16, by its name; ``None`` if it is not in the table, or is a slice of a GPU (MIG)."""
    if "MIG" in name:
        return None
    name = name.removeprefix("NVIDIA ")
    return next((peak for pattern, peak in PEAK_FLOPS.items() if re.fullmatch(pattern, name)), None)


def flops_utilization(*, flops_per_token: int, tokens_per_second: float, peak: float) -> float:
    """Model FLOPs utilization (MFU): the operations that the model needs per second, as a fraction of the peak.

    Chowdhery et al. 2022, "PaLM", appendix B; nanoGPT's ``estimate_mfu`` is the same with the peak of an A100. The
    peak is that in bf16 also for a training in fp32.

    Args:
        flops_per_token: of a forward and a backward pass; see ``gptladder.model.flops``.
        tokens_per_second: that are trained on.
        peak: of all GPUs together.
    """
    return flops_per_token * tokens_per_second / peak


def gpu_use(trainer: L.Trainer, *, flops_per_token: int, tokens_per_second: float | None) -> dict[str, Any]:
    """The name of a run's CUDA GPU, the peak memory in it, and the MFU where its peak is known; else empty."""
    device = trainer.strategy.root_device
    if device.type != "cuda":
        return {}
    name = torch.cuda.get_device_name(device)
    use = {"device": name, "peak_gpu_memory_mb": torch.cuda.max_memory_allocated(device) // 2**20}
    peak = peak_flops(name)
    if peak is None or not tokens_per_second or not flops_per_token:
        return use
    mfu = flops_utilization(
        flops_per_token=flops_per_token, tokens_per_second=tokens_per_second, peak=peak * trainer.world_size
    )
    return {**use, "mfu": round(mfu, 4)}
