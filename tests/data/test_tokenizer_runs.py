"""Runs with every tokenizer: training, resuming, sampling, evaluation and reports."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as L
import pytest
import tiktoken
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.evaluation.loss import exact_loss
from gptladder.report import write_report
from gptladder.runs.checkpoint import load_trained, read_checkpoint, validation_tokens
from gptladder.system.errors import UserError
from gptladder.training.callbacks.text_samples import TextSamples
from helpers.configs import trained
from helpers.processes import warm_command
from helpers.tokenizers import TINY_GPT2

SHORT = ["model=multihead", "trainer.max_steps=30", "trainer.val_check_interval=10", "data.estimate_batches=4"]
TOKENIZERS = {
    "char": ["tokenizer=char"],
    "bpe": ["tokenizer=bpe", "tokenizer.vocab_size=300"],
    "gpt2": ["tokenizer=gpt2"],
}

pytestmark = pytest.mark.xdist_group("tokenizer_runs")


@pytest.fixture(scope="module", autouse=True)
def without_download() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiktoken, "get_encoding", lambda name: TINY_GPT2)
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(tiny_shakespeare()[:60_000] + "naïve café 𝄞\n" * 20)
    return path


@pytest.fixture(scope="module", params=TOKENIZERS)
def run(request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, in a directory named after its tokenizer."""
    directory: Path = tmp_path_factory.mktemp("runs") / request.param
    trained(directory, *settings(request.param, text))
    return directory


def settings(kind: str, text: Path) -> list[str]:
    return [*SHORT, *TOKENIZERS[kind], "data=text", f"data.path={text}"]


def test_bits_per_character_account_for_tokens_per_character(run: Path) -> None:
    result, trained_run = json.loads((run / "result.json").read_text()), load_trained(run / "checkpoints/last.ckpt")
    data = validation_tokens(trained_run)
    loss = exact_loss(trained_run.net, data.tokens, block_size=8, vocab_size=trained_run.tokenizer.vocab_size)
    assert loss == pytest.approx(result["val_loss"], abs=1e-6)
    text = trained_run.tokenizer.decode(data.tokens)
    expected = loss * len(data.tokens) / len(text) / math.log(2)
    assert result["val_bits_per_char"] == pytest.approx(expected, rel=1e-6)
    assert data.tokens_per_char == 1 if run.name == "char" else data.tokens_per_char < 0.8
    assert result["published"] is None


def test_every_tokenizer_validates_on_the_same_characters(run: Path, text: Path) -> None:
    content = text.read_text()
    trained_run = load_trained(run / "checkpoints/last.ckpt")
    assert trained_run.tokenizer.decode(validation_tokens(trained_run).tokens) == content[int(0.9 * len(content)) :]


def test_a_resumed_run_ends_with_the_same_weights(
    run: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: TextSamples, trainer: L.Trainer, __: L.LightningModule) -> None:
        if trainer.global_step == 20:
            raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(TextSamples, "on_validation_end", stop)
        with pytest.raises(SystemExit):
            trained(tmp_path / "run", *settings(run.name, text))
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 10
    assert trained(tmp_path / "run", *settings(run.name, text))["step"] == 30
    resumed, uninterrupted = (
        load_trained(path / "checkpoints/last.ckpt").net.state_dict() for path in (tmp_path / "run", run)
    )
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in uninterrupted)


def test_resuming_with_another_tokenizer_is_refused(run: Path, text: Path) -> None:
    other = "char" if run.name == "bpe" else "bpe"
    with pytest.raises(UserError, match="token"):
        trained(run, *settings(other, text))


def test_the_report_includes_runs_of_every_tokenizer(run: Path, tmp_path: Path) -> None:
    (row,) = write_report(run.parent, tmp_path).rows
    assert row.status == "finished"
    assert (tmp_path / "report.html").read_text().count("data:image/png") >= 1


def test_scripts_accept_a_bpe_run(tmp_path: Path, text: Path) -> None:
    done = warm_command("train.py", *settings("bpe", text), "logger=none", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    evaluated = warm_command("scripts/evaluate.py", "--run", "run", "--json", cwd=tmp_path)
    assert json.loads(evaluated.stdout)["val_bits_per_char"] == pytest.approx(result["val_bits_per_char"], abs=1e-6)
    exported = warm_command("scripts/export.py", "--run", "run", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    generated = warm_command(
        "scripts/generate.py", "--checkpoint", "run/export/model.safetensors", "--prompt", "né", cwd=tmp_path
    )
    assert generated.returncode == 0, generated.stderr
    assert generated.stdout.startswith("né")
