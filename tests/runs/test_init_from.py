"""Runs with initial weights from another run: what they load, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.evaluation.loss import exact_loss
from gptladder.runs.checkpoint import load_trained, validation_tokens
from gptladder.system.errors import UserError
from helpers.configs import trained
from helpers.processes import warm_command

FEW = ["model=multihead", "trainer.val_check_interval=20", "data.estimate_batches=2", "logger=none", "data=text"]

pytestmark = pytest.mark.xdist_group("init_from")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long text, a short one with the same characters, and one with other characters."""
    directory = tmp_path_factory.mktemp("texts")
    shakespeare = tiny_shakespeare()
    (directory / "first.txt").write_text(shakespeare[:400_000])
    (directory / "second.txt").write_text(shakespeare[-20_000:])
    (directory / "third.txt").write_text("Où est-ce, ô naïve? " * 100)
    return directory


@pytest.fixture(scope="module")
def pretrained(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pretrained") / "run"
    trained(directory, *FEW, f"data.path={texts}/first.txt", "trainer.max_steps=400", "optimizer.lr=1e-2")
    return directory


def finetune(run: Path, texts: Path, *more: str, text: str = "second", steps: int = 40) -> dict:
    return trained(run, *FEW, f"data.path={texts}/{text}.txt", f"trainer.max_steps={steps}", *more)


def load_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_trained(run / "checkpoints/last.ckpt").net.state_dict()


def test_pretraining_lowers_the_loss_at_equal_steps(pretrained: Path, texts: Path, tmp_path: Path) -> None:
    scratch = finetune(tmp_path / "scratch", texts)
    tuned = finetune(tmp_path / "tuned", texts, f"init_from={pretrained}")
    assert tuned["step"] == scratch["step"]
    assert tuned["val_loss"] < scratch["val_loss"] - 0.3


def test_the_first_loss_is_that_of_the_pretrained_network(pretrained: Path, texts: Path, tmp_path: Path) -> None:
    tuned = finetune(tmp_path / "run", texts, f"init_from={pretrained}", steps=1)
    before, after = (load_trained(run / "checkpoints/last.ckpt") for run in (pretrained, tmp_path / "run"))
    loss = exact_loss(before.net, validation_tokens(after).tokens, block_size=8, vocab_size=before.tokenizer.vocab_size)
    assert tuned["curve"][0]["step"] == 0
    assert tuned["curve"][0]["val_loss"] == pytest.approx(loss, abs=1e-6)
    assert after.tokenizer.state_dict() == before.tokenizer.state_dict()


def test_an_export_gives_the_same_initial_weights_as_its_run(pretrained: Path, texts: Path, tmp_path: Path) -> None:
    done = warm_command("scripts/export.py", "--run", str(pretrained), "--out", "export", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    by_run = finetune(tmp_path / "a", texts, f"init_from={pretrained}", steps=2)
    by_export = finetune(tmp_path / "b", texts, f"init_from={tmp_path}/export/model.safetensors", steps=2)
    assert by_export["config_hash"] == by_run["config_hash"]
    assert all(
        torch.equal(load_weights(tmp_path / "a")[name], tensor) for name, tensor in load_weights(tmp_path / "b").items()
    )


def test_init_from_is_part_of_the_identity_of_a_run(pretrained: Path, texts: Path, tmp_path: Path) -> None:
    fresh = finetune(tmp_path / "run", texts, steps=2)
    with pytest.raises(UserError, match=r"init_from was null and is "):
        finetune(tmp_path / "run", texts, f"init_from={pretrained}", steps=2)
    assert fresh["config_hash"] != finetune(tmp_path / "b", texts, f"init_from={pretrained}", steps=2)["config_hash"]


def test_a_finetuned_run_resumes_when_the_pretrained_run_is_gone(
    pretrained: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptladder.training.callbacks.text_samples import TextSamples

    shutil.copytree(pretrained, tmp_path / "pre")
    init_from = f"init_from={tmp_path}/pre"
    finetune(tmp_path / "uninterrupted", texts, init_from)

    def stop(_: TextSamples, trainer, __) -> None:
        if trainer.global_step == 40:
            raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(TextSamples, "on_validation_end", stop)
        with pytest.raises(SystemExit):
            finetune(tmp_path / "resumed", texts, init_from)
    assert json.loads((tmp_path / "resumed/result.json").read_text())["status"] == "interrupted"
    shutil.rmtree(tmp_path / "pre")
    finetune(tmp_path / "resumed", texts, init_from)
    resumed, uninterrupted = (load_weights(tmp_path / run) for run in ("resumed", "uninterrupted"))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in uninterrupted.items())


def test_new_characters_get_new_embedding_rows_and_known_ones_keep_theirs(
    pretrained: Path, texts: Path, tmp_path: Path
) -> None:
    finetune(
        tmp_path / "run", texts, f"init_from={pretrained}", "unknown_characters=extend", "optimizer.lr=1e-30",
        text="third", steps=1,
    )  # fmt: skip
    before, after = (load_trained(run / "checkpoints/last.ckpt") for run in (pretrained, tmp_path / "run"))
    assert isinstance(before.tokenizer, CharTokenizer)
    assert isinstance(after.tokenizer, CharTokenizer)
    n_known = before.tokenizer.vocab_size
    assert after.tokenizer.vocabulary == before.tokenizer.vocabulary + "ïôù"
    old, new = before.net.state_dict(), after.net.state_dict()
    for name, tensor in old.items():
        rows = new[name][:n_known] if tensor.size(0) == n_known else new[name]
        assert torch.allclose(rows, tensor, atol=1e-6), name
    assert new["embedding.token.weight"][n_known:].std() > 0.5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.n_embd=64"], "model.n_embd was 32 and is 64"),
        (["model.n_head=2"], "model.n_head was 4 and is 2"),
        (["model.block_size=16"], "model.block_size was 8 and is 16"),
        (["model=layernorm"], "model.n_layer was 1 and is 3"),
        (["tokenizer=bpe"], "was trained with tokenizer=char"),
        (["data.path=TEXTS/third.txt"], "lacks ('ï', 'ô', 'ù'): use unknown_characters=extend"),
        (["unknown_characters=some"], "unknown_characters=some must be error or extend"),
        (["init_from=nowhere"], "init_from=nowhere: there is no checkpoint nowhere"),
        (["init_from=TEXTS/first.txt"], "first.txt cannot be read"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(
    overrides: list[str], words: str, pretrained: Path, texts: Path, tmp_path: Path
) -> None:
    overrides = [override.replace("TEXTS", str(texts)) for override in overrides]
    if not any(override.startswith("init_from=") for override in overrides):
        overrides.append(f"init_from={pretrained}")
    with pytest.raises(UserError) as error:
        finetune(tmp_path / "run", texts, *overrides)
    assert words in str(error.value)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_finetuned_run_can_add_dropout(texts: Path, tmp_path: Path) -> None:
    few = [word for word in FEW if not word.startswith("model=")]
    for run, rung, *more in (("a", "layernorm"), ("b", "dropout", f"init_from={tmp_path}/a")):
        path = [f"data.path={texts}/second.txt", "trainer.max_steps=1", f"model={rung}"]
        assert trained(tmp_path / run, *few, *path, *more)["status"] == "finished"


def test_the_command_line_accepts_a_relative_path_and_reports_a_missing_run_in_one_line(
    pretrained: Path, texts: Path
) -> None:
    words = [*FEW, "data.path=second.txt", "trainer.max_steps=1", "hydra.run.dir=tuned"]
    shutil.copytree(pretrained, texts / "pre")
    missing = warm_command("train.py", *words, "init_from=absent", cwd=texts)
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: init_from=absent: there is no checkpoint absent")
    assert missing.stderr.count("\n") == 1
    assert not (texts / "tuned").exists()
    done = warm_command("train.py", *words, "init_from=pre", cwd=texts)
    assert done.returncode == 0, done.stderr
