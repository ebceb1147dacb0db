"""A rung's own net, batches and optimizer in a loop of five lines, with nothing around it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from gptladder.data.batches import RandomBatches
from gptladder.model.loss import next_token_loss
from gptladder.training.build import build_datamodule, build_module


def bare_loop(cfg: DictConfig) -> Callable[[int], float]:
    """What takes so many steps and says how many seconds they took."""
    torch.manual_seed(cfg.seed)
    data = build_datamodule(cfg)
    learner = build_module(cfg, data)
    instantiate(cfg.hardware).prepare(learner.net)
    optimizer = learner.build_optimizer(learner.net.named_parameters())
    blocks = data.train_blocks()
    assert isinstance(blocks, RandomBatches)

    def take(steps: int) -> float:
        started = time.perf_counter()
        for batch in blocks.draw(steps):
            loss = next_token_loss(learner.net, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return time.perf_counter() - started

    return take
