"""One training, from a config to a recorded result. ``train.py`` and ``gptladder.train`` both end here."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from gptladder.runs.run import Run
from gptladder.training.build import build_datamodule, build_module, build_trainer
from gptladder.training.fit import fit


def train(cfg: DictConfig, run: Run) -> None:
    """Train one rung as composed, and record it in its run directory.

    Raises:
        UserError: the config, the text or the run directory does not fit; recorded as well if the run has started.
    """
    with run.recording():
        torch.manual_seed(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        trainer = build_trainer(cfg, module, data, run)
        fit(trainer, module, data, run)
