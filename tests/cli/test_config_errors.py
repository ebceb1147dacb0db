"""The message for every user error; other errors keep their traceback."""

import errno
import os
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from gptladder.cli.command_line import CommandLine
from gptladder.cli.config_errors import check_renamed, error_message
from gptladder.cli.run_directory import reserve_run_dir
from gptladder.cli.script import run_script
from gptladder.runs.old_records import RENAMED_VALUES
from gptladder.system.errors import UserError
from helpers.configs import CONF, trained
from helpers.processes import Warm


def message_for(run_dir: Path, *overrides: str) -> str:
    """The message of ``train.py`` for invalid overrides, whether composing or building finds the error."""
    with (
        pytest.raises(Exception) as error,  # noqa: PT011
        reserve_run_dir(CommandLine([*overrides, f"hydra.run.dir={run_dir}"], CONF)),
    ):
        trained(run_dir, *overrides)
    assert not run_dir.exists()
    message = error_message(error.value, CONF)
    assert message is not None, repr(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("group", sorted(path.name for path in CONF.iterdir() if any(path.glob("*.yaml"))))
def test_an_unknown_choice_names_the_nearest_one(group: str, tmp_path: Path) -> None:
    choice = max((path.stem for path in (CONF / group).glob("*.yaml")), key=len)
    message = message_for(tmp_path / "run", f"{group}={choice}x")
    assert message == f"{group}={choice}x does not exist: did you mean {choice}?"


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("multihead", "multihead is not KEY=VALUE: did you mean model=multihead?"),
        ("gpu", "gpu is not KEY=VALUE: did you mean hardware=gpu?"),
        ("nothing", "nothing is not KEY=VALUE: write KEY=VALUE, as in model=multihead"),
        ("data.path=a (1).txt", "write 'data.path=\"a (1).txt\"'"),
        ("hydra.run.dir=it's", "characters that need quotes"),
        ("hardware=cuda", "hardware=cuda does not exist: did you mean gpu?"),
    ],
)
def test_a_remedy_is_a_command_that_works(override: str, remedy: str) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011
        CommandLine([override], CONF).compose()
    message = error_message(error.value, CONF)
    assert message is not None
    assert remedy in message


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("mdl=bigram", "did you mean model?"),
        ("optimizer.lrr=1", "did you mean optimizer.lr?"),
        ("data.pth=x", "did you mean data.path?"),
        ("zzzzzz=1", "there are ablation, callbacks, data, "),
        ("model.n_head=2", "does not exist here: use model=embedding or a rung above it"),
        ("model.activation=gelu", "does not exist here: use model=embedding or a rung above it"),
        ("lr=0.1", "did you mean optimizer.lr?"),
        ("max_steps=5", "did you mean trainer.max_steps?"),
        ("n_layer=2", "did you mean model.n_layer?"),
        ("trainer.val_check_intervall=5", "did you mean trainer.val_check_interval?"),
        ("trainer.max_time=00:00:01:00", "is not in the config yet: add it with +trainer.max_time=..."),
        ("trainer.max_tim=00:00:01:00", "did you mean +trainer.max_time?"),
        ("optimizer.amsgrad=true", "add it with +optimizer.amsgrad=..."),
        ("optimizer.amsgrd=true", "did you mean +optimizer.amsgrad?"),
        ("callbacks.best.mode=max", "add it with +callbacks.best.mode=..."),
        ("callbacks.early_stopping.patience=3", "use callbacks=early_stopping"),
        ("scheduler.warmup_steps=3", "use scheduler=cosine"),
        ("tokenizer.vocab_size=300", "use tokenizer=bpe"),
        ("callbacks.bst=null", "did you mean callbacks.best"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(override: str, nearest: str, tmp_path: Path) -> None:
    message = message_for(tmp_path / "run", override)
    assert message.startswith(override.partition("=")[0])
    assert nearest in message


def test_a_plus_before_a_key_that_is_there_is_one_too_many(tmp_path: Path) -> None:
    message = message_for(tmp_path / "run", "+trainer.max_epochs=3")
    assert message == "trainer.max_epochs is in the config already: leave out the +"


def test_a_new_entry_of_a_mapping_needs_two_plus_signs(tmp_path: Path) -> None:
    message = message_for(tmp_path / "run", "experiment=marathon", "data.sequence_length_warmup={32: 100}")
    key = "data.sequence_length_warmup"
    assert message == f"{key} has no entry 32: use ++{key}=... to add one"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.rotary=true", "model.rotary was renamed: use model.rope"),
        ("+model.rotary=true", "model.rotary was renamed: use model.rope"),
        ("++model.pairs=false,true", "model.pairs was renamed: use model.bigram_embedding"),
        ("~data.length_warmup", "data.length_warmup was renamed: use data.sequence_length_warmup"),
        ("++data.length_warmup.32=100", "data.length_warmup was renamed: use data.sequence_length_warmup"),
        ("model.init=zero", "model.init=zero was renamed: use model.init=zero_residual"),
        ("ablation=none,no_pairs", "ablation=no_pairs was renamed: use ablation=no_bigram_embedding"),
        ("unknown_characters=union", "unknown_characters=union was renamed: use unknown_characters=extend"),
    ],
)
def test_a_renamed_key_or_value_names_the_new_one(override: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        check_renamed(["seed=1", override])
    assert str(error.value) == message


def test_the_new_name_of_a_renamed_ablation_exists() -> None:
    names = {new for (key, _), new in RENAMED_VALUES.items() if key == "ablation"}
    assert names <= {path.stem for path in (CONF / "ablation").glob("*.yaml")}


@pytest.mark.parametrize(
    "override",
    [
        "model.n_layer=abc",
        "model.n_layer=-1",
        "model.n_head=0",
        "model.block_size=1.5",
        "model.dropout=2",
        "model.dropout=nan",
        "model.norm_position=foo",
        "model.attention=foo",
        "data.batch_size=0",
        "data.batch_size=abc",
        "data.split=2",
        "data.split=abc",
        "data.stream=foo",
        "optimizer.lr=abc",
        "optimizer.lr=-1",
        "optimizer.lr=0",
        "optimizer.lr=nan",
        "optimizer.lr=1e+300",
        "optimizer.lr=inf",
        "seed=abc",
        "seed=1.5",
        "seed=-1",
        "seed=99999999999999999999",
        "trainer.max_steps=0",
        "trainer.max_steps=abc",
        "trainer.val_check_interval=0",
        "trainer.accumulate_grad_batches=0",
        "hardware.precision=16-mixed",
        "hardware.accelerator=abacus",
        "hardware.threads=0",
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(override: str, tmp_path: Path) -> None:
    assert message_for(tmp_path / "run", "model=multihead", override).startswith(override)


@pytest.mark.parametrize("hardware", ["gpu", "ddp", "mps"])
def test_missing_hardware_is_a_user_error(hardware: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert "use hardware=cpu" in message_for(tmp_path / "run", f"hardware={hardware}")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["model=multihead", "model.n_embd=30"], "model.n_embd=30 is not divisible by model.n_head=4: use n_embd=28"),
        (["+model.depth=3"], "unexpected keyword argument 'depth'"),
        (["~hardware.devices"], "hardware: Hardware.__init__() missing 1 required keyword-only argument: 'devices'"),
        (["~seed"], "'seed' not found"),
        (["data.path=${nothing}"], "'nothing' not found: give data.path a value"),
        (["model=3"], "name of one of its choices"),
        (["~init_from"], "~init_from cannot be removed: set it to null"),
        (["~model"], "a run needs a rung: choose one, such as model=bigram"),
        (["callbacks=[a]"], "callbacks=a does not exist"),
        (["+model=gpt"], "model has a choice already: write model=CHOICE without the +"),
        (["hardware.devices=foo"], "hardware.devices=foo must be an integer >= 1 on a CPU"),
        (["hardware.devices=-1"], "hardware.devices=-1 must be an integer >= 1 on a CPU"),
        (["model.block_size=???"], "model.block_size must be given"),
        (["seed=1,2"], "-m"),
        (["seed=[1"], "quote"),
    ],
)
def test_the_message_names_the_key_and_the_remedy(overrides: list[str], part: str, tmp_path: Path) -> None:
    assert part in message_for(tmp_path / "run", *overrides)


def test_a_text_file_may_be_named_by_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2026").write_text("short")
    assert "longer text" in message_for(tmp_path / "run", "data=text", "data.path=2026")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_a_place_that_cannot_be_written_is_named(number: int) -> None:
    message = error_message(OSError(number, os.strerror(number), "outputs/s"), CONF)
    assert message is not None
    assert message.startswith(f"outputs/s: {os.strerror(number)}: check the path")


@pytest.mark.parametrize("words", [[], ["-m"]], ids=["run", "sweep"])
def test_outputs_that_is_a_file_is_one_line(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "outputs").touch()
    done = Warm("train.py", *words, "trainer.max_steps=1", cwd=tmp_path)
    assert done.end() == 2
    (line,) = done.stderr.splitlines()
    assert "Not a directory" in line


@pytest.mark.parametrize("error", [TypeError("in our code"), AttributeError("cfg.trainr"), ValueError(), KeyError("x")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    assert error_message(error, CONF) is None


def test_a_missing_launcher_names_its_extra() -> None:
    error = MissingConfigException("absent", missing_cfg_file="hydra/launcher/ray", options=["basic", "joblib"])
    assert "hydra/launcher=ray is not installed: pip install -e '.[ray]'" in str(error_message(error, CONF))


@pytest.mark.parametrize(
    ("code", "path", "said"),
    [
        (errno.ENOSPC, None, "error: no space left on device"),
        (errno.ENOENT, "a/b", "error: a/b: No such file or directory: check the path"),
    ],
)
def test_a_script_has_a_remedy_for_a_full_disk_and_for_a_path(
    code: int, path: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code), path)

    with pytest.raises(SystemExit) as end:
        run_script(fail)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_another_fault_of_the_system_keeps_its_traceback() -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a/b")

    with pytest.raises(OSError, match="Input/output"):
        run_script(fail)
