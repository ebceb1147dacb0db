"""nanoGPT's recipe gives the losses of a plain loop of it, step by step."""

from dataclasses import replace
from pathlib import Path

import nanogpt
import pytest
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.evaluation.loss import exact_loss
from gptladder.runs.checkpoint import load_trained, validation_tokens
from gptladder.training.build import build_datamodule, build_module
from helpers.configs import command, composed, trained

STEPS = 6
SHORT = [
    "model=nanogpt",
    f"trainer.max_steps={STEPS}",
    "scheduler.warmup_steps=2",
    "data.stream=independent",
    "data.estimate_batches=1",
    "trainer.log_every_n_steps=1",
    "hardware.threads=1",
]
SETTINGS = replace(nanogpt.Settings(), max_iters=STEPS, warmup_iters=2)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """The start of the corpus, which takes less time to evaluate."""
    path = tmp_path / "short.txt"
    path.write_text(tiny_shakespeare()[:20_000])
    return path


# The names of weights here and in the plain loop.
NAMES = {
    "embedding.token": "token",
    "embedding.position": "position",
    "blocks.": "layers.",
    "attention.qkv": "attention.query_key_value",
    "mlp.0": "feedforward.widen",
    "mlp.2": "feedforward.projection",
    "final_norm": "norm",
}


def copy_weights(net: torch.nn.Module) -> nanogpt.Net:
    """The plain network with the weights of one of ours."""
    plain = nanogpt.Net(SETTINGS, net.lm_head.out_features)
    state = {}
    for name, weight in net.state_dict().items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        state[name] = weight
    plain.load_state_dict(state)
    return plain


def test_the_same_weights_and_batches_give_the_losses_of_the_plain_loop(text: Path, tmp_path: Path) -> None:
    words = [*SHORT, "data=text", f"data.path={text}"]
    cfg = composed(*words, f"run_dir={tmp_path}")
    torch.manual_seed(cfg.seed)
    plain = copy_weights(build_module(cfg, build_datamodule(cfg)).net)
    train_tokens, val_tokens, _ = nanogpt.encode(text.read_text())
    torch.manual_seed(cfg.seed)  # as the independent stream
    losses = list(nanogpt.steps(plain, train_tokens, SETTINGS))

    result = trained(tmp_path / "run", *words, "logger=csv", "~callbacks.samples", "~callbacks.attention_maps")
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    recorded = [float(value) for _, name, value in rows if name == "train/loss"]
    rates = [float(value) for _, name, value in rows if name == "train/lr"]
    assert len(recorded) == STEPS
    assert recorded == pytest.approx(losses, abs=2e-5)
    assert rates == pytest.approx([nanogpt.lr_at(it, SETTINGS) for it in range(STEPS)])
    assert recorded[-1] < recorded[0] - 0.1
    assert result["val_loss"] == pytest.approx(nanogpt.exact(plain.eval(), val_tokens, SETTINGS), abs=2e-5)


def test_tied_weights_are_tied_in_a_loaded_checkpoint(text: Path, tmp_path: Path) -> None:
    result = trained(tmp_path / "run", *SHORT, "data=text", f"data.path={text}", "logger=none")
    last = load_trained(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last.net.lm_head.weight is last.net.embedding.token.weight
    loss = exact_loss(last.net, validation_tokens(last).tokens, block_size=64, vocab_size=65)
    assert result["val_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.slow
def test_the_plain_loop_prints_its_exact_loss(text: Path, tmp_path: Path) -> None:
    done = command("scripts/baselines/nanogpt.py", str(text), "--max-iters=110", "--threads=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["0", "110"]
    assert 2 < float(lines[-1].removeprefix("exact val loss ")) < 3.5
