"""Train one rung of the ladder: ``python train.py model=multihead``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from gptladder.cli.main import exit_on_user_error, main
from gptladder.training.speed import gc_paused


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@exit_on_user_error
def train(cfg: DictConfig) -> float:
    """Train one rung as composed, record it in the run directory, and return its exact loss."""
    # Imported here: --help and user errors answer before torch and Lightning are loaded.
    with gc_paused():
        import torch
        from rich import print

        from gptladder.cli.summary import summary
        from gptladder.runs.run import Run
        from gptladder.runs.train_log import log_output
        from gptladder.training.build import build_datamodule, build_module, build_trainer
        from gptladder.training.fit import fit

    run = Run(cfg.run_dir)
    with log_output(run):
        with run.recording():
            torch.manual_seed(cfg.seed)
            data = build_datamodule(cfg)
            module = build_module(cfg, data)
            trainer = build_trainer(cfg, module, data, run)
            fit(trainer, module, data, run)
        if trainer.is_global_zero:
            print(summary(run.result, run.path))
    return float(run.result["val_loss"])


if __name__ == "__main__":
    main(train, conf=Path(__file__).with_name("conf"))
