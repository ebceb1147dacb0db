"""Files from others may be damaged or malicious: nothing in them is executed."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from helpers.malice import Malice
from helpers.processes import Warm
from helpers.runs import contents, small


def refused_resume(directory: Path) -> str:
    """The one line that refuses to resume a run; nothing in the directory around it changes."""
    before = contents(directory)
    done = Warm("train.py", "resume=run", cwd=directory)
    assert done.end() == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert contents(directory) == before
    return line


COMMANDS = {
    "train": ("train.py", "resume=run"),
    "generate": ("scripts/generate.py", "--run", "run"),
    "evaluate": ("scripts/evaluate.py", "--run", "run"),
    "export": ("scripts/export.py", "--run", "run"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the command."""
    directory = tmp_path_factory.mktemp("trusted")
    done = Warm("train.py", *small(directory), "hydra.run.dir=run", cwd=directory)
    assert done.end() == 0, done.stderr
    return directory / "run"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it whose status is not finished."""
    shutil.copytree(whole, tmp_path / "run")
    result = tmp_path / "run" / "result.json"
    result.write_text(result.read_text().replace('"finished"', '"interrupted"'))
    return tmp_path / "run"


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_executes_code_of_a_checkpoint(
    name: str, plain: bool, run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    with (run / "checkpoints/last.ckpt").open("wb") as file:
        (pickle.dump if plain else torch.save)({"gptladder": Malice(tmp_path / "proof")}, file)
    before = contents(run)
    done = Warm(*COMMANDS[name], cwd=tmp_path)
    assert done.end() == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "last.ckpt cannot be read" in line
    assert not (tmp_path / "proof").exists()
    assert contents(run) == before
    tried(hostile_files=1)


def test_malicious_fixture_executes_when_unpickled(tmp_path: Path) -> None:
    torch.save(Malice(tmp_path / "proof"), tmp_path / "malice.ckpt")
    torch.load(tmp_path / "malice.ckpt", weights_only=False)
    assert (tmp_path / "proof").exists()


def test_a_report_reads_no_checkpoint_and_escapes_markup(run: Path, tmp_path: Path, tried: Callable[..., None]) -> None:
    torch.save({"gptladder": Malice(tmp_path / "proof")}, run / "checkpoints/last.ckpt")
    result = run / "result.json"
    result.write_text(result.read_text().replace('"model": "dropout"', '"model": "<script>alert(1)</script>"'))
    done = Warm("scripts/report.py", ".", cwd=tmp_path)
    assert done.end() == 0, done.stderr
    assert not (tmp_path / "proof").exists()
    assert "<script>alert(1)" not in (tmp_path / "report.html").read_text()
    tried(hostile_files=2)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"_target_": "os.mkdir", "path": "proof"}},
        {"logger": {"csv": {"_target_": "gptladder.runs.run.os.mkdir", "path": "proof"}}},
        {"hydra": {"callbacks": {"x": {"_target_": "os.mkdir", "path": "proof"}}}},
        {"defaults": [{"model": "gpt"}]},
        {"callbacks": {"x": [{"_target_": "${oc.env:HOME}"}]}},
        {"rung": "${oc.env:HOME}"},
        {"rung": "${oc.env:${rung}}"},
        {"rung": "${oc.decode:${oc.env:HOME}}"},
        {"run_dir": "proof"},
        {"run_dir": "${hydra:runtime.output_dir}/../proof"},
        {"logger": {"csv": {"_target_": "gptladder.training.loggers.ResumableCSVLogger", "run_dir": "/tmp/proof"}}},
        {
            "logger": {
                "csv": {"_target_": "gptladder.training.loggers.ResumableCSVLogger", "run_dir": "${run_dir}/../x"}
            }
        },
        {"callbacks": {"x": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "../proof"}}},
        {"callbacks": {"x": {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "filename": "../proof"}}},
        {"trainer": {"profiler": {"_target_": "lightning.pytorch.profilers.PyTorchProfiler", "dirpath": "/tmp/x"}}},
    ],
    ids=[
        "optimizer",
        "through a module of ours",
        "hydra",
        "defaults",
        "interpolated",
        "environment",
        "nested",
        "decoded",
        "run directory",
        "parent of the run directory",
        "logger",
        "logger in a parent",
        "checkpoints",
        "file name",
        "profiler",
    ],
)
def test_a_recorded_config_does_only_what_our_configs_do_and_inside_its_directory(
    change: dict[str, object], run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    path = run / ".hydra/config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    assert os.environ["HOME"] not in refused_resume(tmp_path).replace(str(tmp_path), "")
    tried(hostile_files=1)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: [*a, *a]\n",
        "a: &a [*a]\n",
        "[" * 100_000,
        "a: {" * 60 + "}" * 60,
        "a: \xff",
        "\0",
        "- 1\n",
        "a: !!python/object/apply:os.mkdir [proof]\n",
    ],
    ids=["aliases", "an alias of itself", "deep", "deep mappings", "latin", "zero", "a list", "an object"],
)
@pytest.mark.parametrize("name", ["config.yaml", "hydra.yaml"])
def test_a_damaged_config_is_refused_or_not_used(
    name: str, text: str, run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    (run / ".hydra" / name).write_bytes(text.encode("latin-1"))
    before = contents(run)
    done = Warm("train.py", "resume=run", cwd=tmp_path)
    if name == "config.yaml":
        assert done.end() == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert contents(run) == before
    else:  # only the working directory and the choices of groups are read from it
        assert done.end() in (0, 2), done.stderr
        assert len(done.stderr.splitlines()) <= 1
    report = Warm("scripts/report.py", ".", cwd=tmp_path)
    assert report.end() == 0, report.stderr
    tried(hostile_files=1)


@pytest.mark.parametrize(
    "words",
    [
        ("train.py", "resume=https://example.org/run"),
        ("train.py", "data=text", "data.path=https://example.org/text"),
        ("scripts/generate.py", "--checkpoint", "https://example.org/last.ckpt"),
        ("scripts/evaluate.py", "--run", "https://example.org/run"),
        ("scripts/report.py", "https://example.org/runs"),
    ],
    ids=" ".join,
)
def test_no_url_is_fetched(words: tuple[str, ...], tmp_path: Path, tried: Callable[..., None]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = Warm(*words, cwd=work)
    assert done.end() == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(work.iterdir()) == []
    tried(hostile_files=1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        b'{"step": 1' + b"0" * 400 + b"}",
        b'{"a": "\\ud800"}',
    ],
)
def test_a_damaged_record_is_refused_and_kept(
    content: bytes, run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    (run / "result.json").write_bytes(content)
    assert "result.json is not a run result" in refused_resume(tmp_path)
    tried(hostile_files=1)


@pytest.mark.parametrize(
    "name", ["train.log", "metrics.csv", "checkpoints", ".hydra/config.yaml", "checkpoints/last.ckpt"]
)
def test_a_link_out_of_the_run_directory_is_not_followed(
    name: str, run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    outside = tmp_path / "outside"
    source = run / name
    if source.is_dir():
        shutil.copytree(source, outside)
        shutil.rmtree(source)
    else:
        outside.write_bytes(source.read_bytes() if source.exists() else b"")
        source.unlink(missing_ok=True)
    source.symlink_to(outside)
    assert "it is a link to" in refused_resume(tmp_path)
    tried(hostile_files=1)


@pytest.mark.parametrize(
    "change",
    [
        {"rung": "../../proof", "callbacks": {"x": {"dirpath": "${run_dir}/${rung}"}}},
        {"rung": "/tmp/proof", "callbacks": {"x": {"filename": "${rung}"}}},
        {"callbacks": {"x": {"_args_": ["/tmp/proof"]}}},
        {"data": {"cache": "/tmp/proof-of-a-cache"}},
    ],
    ids=["resolved directory", "resolved name", "positional", "cache"],
)
def test_a_recorded_config_writes_nowhere_else_by_any_detour(
    change: dict[str, object], run: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    path = run / ".hydra/config.yaml"
    config = yaml.safe_load(path.read_text())
    for group, values in change.items():
        config[group] = {**config[group], **values} if isinstance(values, dict) else values
    if "callbacks" in change:
        config["callbacks"]["x"]["_target_"] = "lightning.pytorch.callbacks.ModelCheckpoint"
    path.write_text(yaml.safe_dump(config))
    assert refused_resume(tmp_path).startswith("error: refusing ")
    tried(hostile_files=1)
