"""The time of a step of nanoGPT's GPU recipe: ``python scripts/baselines/nanogpt_gpu.py TEXT --steps 100``, as JSON.

That is ``train.py config/train_shakespeare_char.py`` as it is: 10.6 million parameters on a GPU, in bf16, with flash
attention and ``torch.compile``, batches from pinned memory, and the loss read every ten steps.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from nanogpt import Net, Settings, encode, loss_of, unread_steps
from torch import Tensor

# The settings of the config file alone.
GPU = Settings(
    block_size=256,
    batch_size=64,
    n_layer=6,
    n_head=6,
    n_embd=384,
    max_iters=5000,
    eval_iters=200,
    dropout=0.2,
    device="cuda",
)


def time_steps(tokens: Tensor, vocab_size: int, s: Settings, *, n_warmup: int, compiled: bool) -> dict[str, float]:
    """The time of a step after a warm-up, in which ``torch.compile`` compiles, and the peak memory of a GPU."""
    torch.manual_seed(s.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    net = Net(s, vocab_size).to(s.device)
    wait = torch.cuda.synchronize if s.device == "cuda" else lambda: None
    # nanoGPT's network computes its loss as well, so that both are compiled together.
    compute_loss = torch.compile(loss_of) if compiled else loss_of
    for it, loss in enumerate(unread_steps(net, tokens, s, compute_loss), start=1):
        if it % 10 == 0:
            loss.item()
        if it == n_warmup:
            wait()
            started = time.perf_counter()
    wait()
    seconds = (time.perf_counter() - started) / (s.max_iters - n_warmup)
    peak = torch.cuda.max_memory_allocated() if s.device == "cuda" else 0
    return {"ms_per_step": 1e3 * seconds, "peak_gpu_memory_mb": peak // 2**20}


def main() -> None:
    """Print the milliseconds of a step, and the peak memory."""
    parser = argparse.ArgumentParser(description="The time of a step of nanoGPT's GPU recipe.")
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, required=True, help="steps to time")
    parser.add_argument("--warmup", type=int, default=20, help="steps before them (default 20)")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    arguments = parser.parse_args()
    s = replace(GPU, max_iters=arguments.warmup + arguments.steps)
    tokens, _, vocab_size = encode(arguments.text.read_text())
    print(json.dumps(time_steps(tokens, vocab_size, s, n_warmup=arguments.warmup, compiled=not arguments.eager)))


if __name__ == "__main__":
    main()
