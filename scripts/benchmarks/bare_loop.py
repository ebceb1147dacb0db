"""A rung's network, batches and optimizer in a loop of five lines, without Lightning."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from gptladder.data.training_batches import RandomBatches
from gptladder.model.loss import next_token_loss
from gptladder.training import speed
from gptladder.training.build import build_datamodule, build_module


def build_bare_loop(cfg: DictConfig) -> Callable[[int], float]:
    """Build a function that takes a number of steps and returns the seconds they took."""
    torch.manual_seed(cfg.seed)
    data = build_datamodule(cfg)
    net = build_module(cfg, data).net
    instantiate(cfg.hardware).configure(net)
    speed.use_fast_kernels(net, cfg.fast)
    optimizer = instantiate(cfg.optimizer)(net.named_parameters())
    batches = data.train_batches()
    assert isinstance(batches, RandomBatches)

    def take_steps(n_steps: int) -> float:
        started = time.perf_counter()
        for x, y in batches.sample(n_steps):
            loss = next_token_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return time.perf_counter() - started

    return take_steps
