"""The command line is read as Hydra reads it."""

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from gptladder import __version__
from gptladder.cli.command_line import CommandLine
from gptladder.system.errors import UserError
from helpers.configs import CONF, command
from helpers.marks import slow
from helpers.processes import Warm
from helpers.runs import contents

FEW = ("trainer.max_steps=2", "data.estimate_batches=1", "~callbacks.samples", "logger=none")


def ran(*words: str, cwd: Path) -> SimpleNamespace:
    """A command that has ended."""
    process = Warm("train.py", *words, cwd=cwd)
    return SimpleNamespace(returncode=process.end(), stdout=process.stdout, stderr=process.stderr)


def line(*arguments: str) -> CommandLine:
    return CommandLine(list(arguments), CONF)


def refusal(*arguments: str) -> str | None:
    """Why the settings of a command are refused; ``None`` if they are not."""
    try:
        line(*arguments).check_settings()
    except UserError as error:
        return str(error)
    return None


def write_experiment(directory: Path, name: str, text: str = "seed: 5") -> None:
    """A config of the user's own, in a directory that is not ours."""
    (directory / "experiment").mkdir(parents=True, exist_ok=True)
    (directory / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["experiment=ladder"],
        ["experiment=ladder", "seed=1,2"],
        ["-m", "seed=1,2"],
        ["--multirun", "model=bigram"],
        ["plan=true"],
        ["experiment=speedrun", "plan=true"],
        ["hydra.mode=MULTIRUN", "seed=1,2"],
        ["-cn", "train", "experiment=ladder"],
    ],
)
def test_every_kind_of_sweep_has_our_sweeper(arguments: list[str]) -> None:
    assert line(*arguments).is_sweep
    words = line(*arguments).sweep_arguments()
    assert words[-1] == "hydra/sweeper=ladder"
    assert {"-m", "--multirun"} & set(words)


@pytest.mark.parametrize(
    "arguments", [[], ["seed=2"], ["experiment=speedrun"], ["experiment=ladder", "hydra.mode=RUN"]]
)
def test_any_other_command_is_a_single_run(arguments: list[str]) -> None:
    assert not line(*arguments).is_sweep


def test_an_experiment_may_choose_another_sweeper() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")  # pip install -e ".[search]"
    assert line("experiment=search").sweep_arguments() == ["--multirun", "experiment=search"]


def test_a_sweeper_on_the_command_line_is_kept() -> None:
    assert line("-m", "hydra/sweeper=basic").sweep_arguments() == ["-m", "hydra/sweeper=basic"]


@pytest.mark.parametrize("option", ["--config-dir", "searchpath"])
def test_an_experiment_of_the_user_is_found_and_has_our_sweeper(option: str, tmp_path: Path) -> None:
    write_experiment(tmp_path, "mine", "sweep: mine\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}")
    where = ["--config-dir", str(tmp_path)] if option == "--config-dir" else [f"hydra.searchpath=[file://{tmp_path}]"]
    assert line(*where, "experiment=mine").is_sweep
    assert line(*where, "experiment=mine").sweep_arguments()[-1] == "hydra/sweeper=ladder"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hydra.output_subdir=null"], "hydra.output_subdir=None is not possible here"),
        (["-m", "hydra.output_subdir=x"], "hydra.output_subdir=x is not possible here"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=True is not possible here"),
        (["-m", "hydra.sweep.subdir=x", "seed=1,2"], "jobs are named by their overrides"),
        (["-m", "sweep=/abs/path"], "use hydra.sweep.dir=/abs/path"),
        (["-m", "sweep=../x"], "use hydra.sweep.dir=../x"),
    ],
    ids=" ".join,
)
def test_a_setting_of_hydra_that_runs_rely_on_is_kept(arguments: list[str], words: str) -> None:
    assert words in (refusal(*arguments) or "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-m", "seed=1,2"],
        ["hydra.job.chdir=false"],
        ["-m", "sweep=a/b"],
        ["-m", "launcher=joblib", "hydra.launcher.n_jobs=2"],
    ],
    ids=str,
)
def test_other_settings_are_accepted(arguments: list[str]) -> None:
    assert refusal(*arguments) is None


def test_a_setting_in_a_config_of_the_user_is_checked_too(tmp_path: Path) -> None:
    write_experiment(tmp_path, "mine", "hydra: {output_subdir: null}")
    with pytest.raises(UserError, match="output_subdir"):
        line("--config-dir", str(tmp_path), "experiment=mine").check_settings()


def test_a_key_that_only_the_swept_rungs_have_is_given_to_each_job() -> None:
    words = line("-m", "model=multihead,dropout", "model.n_embd=16", "seed=3").sweep_arguments()
    assert words[1:3] == ["model=multihead,dropout", "model.n_embd=choice(16)"]
    assert "seed=3" in words
    plain = line("-m", "model=bigram,multihead", "optimizer.lr=0.1").sweep_arguments()
    assert "optimizer.lr=0.1" in plain


def test_a_mistake_in_a_sweep_names_the_key_and_not_another(tmp_path: Path) -> None:
    for words, message in (
        (["experiment=ladder", "seed=1,2", "modle=bigram"], "modle is not a key of the config: did you mean model?"),
        (["-m", "model=multihead,dropout", "model.n_embdd=16"], "model.n_embdd is not a key of the config"),
    ):
        done = Warm("train.py", *words, cwd=tmp_path)
        assert done.end() == 2
        (error,) = done.stderr.splitlines()
        assert message in error


def test_the_run_directory_may_refer_to_hydras_own_values(tmp_path: Path) -> None:
    where = "hydra.run.dir=${hydra:runtime.choices.model}/${hydra.job.override_dirname}"
    done = Warm("train.py", where, "seed=5", *FEW, cwd=tmp_path)
    assert done.end() == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("bigram/*/result.json"))
    assert "seed=5" in run.name
    assert "run_dir" not in run.name


@pytest.mark.parametrize("words", [["--cfg", "job", "-m"], ["--run", "-m"], ["--cfg", "job", "--info"]], ids=" ".join)
def test_options_that_exclude_each_other_are_one_line(words: list[str], tmp_path: Path) -> None:
    done = Warm("train.py", *words, cwd=tmp_path)
    assert done.end() == 2
    (error,) = done.stderr.splitlines()
    assert "exclude each other" in error


def test_hydra_verbose_shows_what_libraries_log(tmp_path: Path) -> None:
    silent, verbose = (Warm("train.py", *words, *FEW, cwd=tmp_path) for words in ([], ["hydra.verbose=true"]))
    assert (silent.end(), verbose.end()) == (0, 0)
    assert len(verbose.stdout.splitlines()) > len(silent.stdout.splitlines())


@pytest.mark.parametrize(
    "encoding", ["ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "cp1252"))]
)
def test_output_that_is_not_utf_8_fails_no_command(encoding: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("— naïve ☃ 漢字 " * 60, encoding="utf-8")
    words = ("data=text", f"data.path={text}", "hydra.run.dir=r", *FEW)
    for command_words in (
        ("train.py", *words),
        ("scripts/report.py", "r"),
        ("scripts/generate.py", "--run", "r", "--tokens", "40"),
        ("train.py", "-m", *words[:2], "seed=1", *FEW),
    ):
        done = command(*command_words, cwd=tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr


def test_sweeps_of_sweeps_are_refused() -> None:
    with pytest.raises(UserError, match="experiment=ladder has jobs of its own"):
        assert line("-m", "experiment=ladder,off_ladder").is_sweep
    assert line("-m", "experiment=speedrun,marathon").is_sweep


def test_overrides_may_come_before_options() -> None:
    assert line("seed=9", "-cn", "train").run_arguments(Path("r")) == ["-cn", "train", "seed=9", "hydra.run.dir='r'"]


@pytest.mark.parametrize("options", [["-cn", "train"], ["--config-name=train"], ["--run"]])
def test_an_option_does_not_bypass_the_reservation_of_a_directory(options: list[str], tmp_path: Path) -> None:
    first = ran("hydra.run.dir=r", *FEW, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    recorded = (tmp_path / "r" / ".hydra" / "config.yaml").read_bytes()
    second = ran(*options, "hydra.run.dir=r", "seed=9", *FEW, cwd=tmp_path)
    assert second.returncode == 2
    assert "already holds a run" in second.stderr
    assert (tmp_path / "r" / ".hydra" / "config.yaml").read_bytes() == recorded


def test_an_experiment_in_a_directory_of_the_user_trains(tmp_path: Path) -> None:
    write_experiment(tmp_path / "mine", "own")
    done = ran("--config-dir", "mine", "experiment=own", "hydra.run.dir=r", *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seed: 5" in (tmp_path / "r" / ".hydra" / "config.yaml").read_text()


def test_a_second_sweep_of_another_seed_trains_it(tmp_path: Path) -> None:
    for seed in (1, 2):
        done = ran("-m", "experiment=none", f"seed={seed}", *FEW, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs" / "multirun").glob("*/result.json"))) == 2


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_job_records_the_command_as_it_was_typed(launcher: str, tmp_path: Path) -> None:
    words = ["-m", "model=bigram", "seed=1", f"launcher={launcher}", *FEW]
    done = command("train.py", *words, cwd=tmp_path) if launcher == "joblib" else ran(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "outputs" / "multirun").glob("*/result.json")
    assert json.loads(path.read_text())["command"] == shlex.join(["python", "train.py", *words])


def test_a_finished_run_of_another_config_is_not_passed_off(tmp_path: Path) -> None:
    for seed, code in ((1, 0), (2, 1)):
        done = ran("-m", "hydra/sweeper=basic", f"seed={seed}", *FEW, cwd=tmp_path)
        # Hydra's own sweeper numbers the directories of its jobs, so that both are in 0.
        assert (done.returncode != 0) == code, done.stderr
        assert ("cannot resume from" in done.stderr) == code


def test_a_directory_of_configs_that_does_not_exist_is_a_user_error(tmp_path: Path) -> None:
    done = ran("--config-dir", "nowhere", "model=bigram", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--config-dir nowhere is not a directory" in done.stderr


def test_two_jobs_that_would_share_a_directory_are_refused_before_launch(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_experiment(tmp_path / "mine", name, f"seed: {len(name)}\ndata: {{batch_size: {16 + len(name)}}}")
    (tmp_path / "mine" / "experiment" / "two.yaml").write_text("# @package _global_\nseed: 9\n")
    for words, message in (
        (["--config-dir", "mine", "experiment=one,two"], "experiment=one and experiment=two"),
        (["seed=1,1"], "the same job twice"),
        (["model=bigram", "+a=1,2"], None),
    ):
        done = Warm("train.py", "-m", *words, *FEW, "plan=true" if message is None else "plan=false", cwd=tmp_path)
        code = done.end()
        if message is None:
            assert code in (0, 1)
            assert "would hold two jobs" not in done.stderr
            continue
        assert code == 2
        (line,) = done.stderr.splitlines()
        assert f"would hold two jobs, {message}" in line
        assert not (tmp_path / "outputs").exists()


def test_a_value_from_the_environment_is_recorded_resolved(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 50)
    words = ("data=text", "data.path=${oc.env:TEXT}", "+trainer.max_time={seconds: 0}", "hydra.run.dir=r", *FEW)
    first = Warm("train.py", *words, cwd=tmp_path, TEXT=str(text))
    assert first.end() == 0, first.stderr
    config = tmp_path / "r" / ".hydra" / "config.yaml"
    assert f"path: {text}" in config.read_text()
    assert "run_dir: ${hydra:runtime.output_dir}" in config.read_text()
    again = Warm("train.py", "resume=r", cwd=tmp_path)
    assert again.end() == 0, again.stderr


@pytest.mark.parametrize(("value", "shown"), [("null", "null"), ("''", "")])
def test_a_text_without_a_path_does_not_become_shakespeare(value: str, shown: str, tmp_path: Path) -> None:
    done = Warm("train.py", "data=text", f"data.path={value}", *FEW, cwd=tmp_path)
    assert done.end() == 2
    assert done.stderr == f"error: data=text data.path={shown}: give data.path=FILE a text\n"


@pytest.mark.parametrize(
    ("words", "lr"),
    [
        (["model=layernorm"], 1e-3),
        (["model=bigram"], 1e-2),
        (["model=gpt"], 3e-4),
        (["model=layernorm", "optimizer=muon"], 0.02),
        (["model=bigram", "optimizer=adamw_matrices"], 1e-3),
        (["model=layernorm", "optimizer=muon", "optimizer.lr=0.5"], 0.5),
        (["model=layernorm", "rung_lr=0.25"], 0.25),
        (["experiment=speedrun"], 0.06),
    ],
    ids=str,
)
def test_a_chosen_optimizer_brings_its_own_learning_rate(words: list[str], lr: float) -> None:
    assert line(*words).compose().optimizer.lr == lr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-m", "model=bigram,multihead", "seed=1,2"], "model"),
        (["-m", "model=layernorm", "optimizer.lr=1e-3,1e-2"], "layernorm-lr"),
        (["-m", "optimizer.lr=1e-3,1e-2", "tokenizer.vocab_size=256,512", "tokenizer=bpe"], "bigram-lr-vocab_size"),
        (["-m", "seed=1,2"], "bigram-seed"),
    ],
    ids=" ".join,
)
def test_a_sweep_without_a_name_is_named_after_what_it_sweeps(arguments: list[str], name: str) -> None:
    assert f"sweep={name}" in line(*arguments).sweep_arguments()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "seed=1,2", "sweep=mine"],
        ["-m", "seed=1,2", "hydra.sweep.dir=x"],
        ["experiment=ladder", "seed=1,2"],
        ["-m"],
    ],
    ids=" ".join,
)
def test_a_sweep_with_a_name_keeps_it(arguments: list[str]) -> None:
    assert [word for word in line(*arguments).sweep_arguments() if word.startswith("sweep=")] == [
        word for word in arguments if word.startswith("sweep=")
    ]


def test_the_version_is_ours(tmp_path: Path) -> None:
    done = Warm("train.py", "--version", cwd=tmp_path)
    assert done.end() == 0
    assert done.stdout == f"gpt-ladder {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+resume=r"], "write resume=r"),
        (["++resume=r"], "write resume=r"),
        (["run_dir=r"], "run_dir is derived: use hydra.run.dir=DIR"),
        (["-m", "run_dir=r", "seed=1,2"], "run_dir is derived"),
        (["fresh=true"], "fresh=true deletes earlier results of a sweep"),
        (["-m", "sweep=", "seed=1"], "sweep= must be a name"),
        (["-m", "sweep=null", "seed=1"], "sweep=None must be a name"),
        (["-m", "seed=range(3,1)"], "there is no job"),
        (["+trainer.min_steps=50"], "use trainer.max_steps"),
        (["+trainer.deterministic=banana"], "trainer.deterministic=banana must be true, false or warn"),
        (["logger.csv.run_dir=r"], "run_dir=r lies in another run"),
        (["callbacks.last.dirpath=r/checkpoints"], "dirpath=r/checkpoints lies in another run"),
        (["callbacks.stopping.checkpoint=r/checkpoints/last.ckpt"], "lies in another run"),
        (["resume=r", "trainer.max_steps=99999999999999999999999"], "must be an integer above the 2 steps that r has"),
        (["resume=r", "trainer.max_steps=${seed}"], "must be an integer above"),
        (["resume='r'", "trainer.max_steps=1"], "must be an integer above"),
        (["logger=none", "+callbacks.p._target_=lightning.pytorch.callbacks.LearningRateMonitor"], "no logger"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_would_do_something_else_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / ".hydra").mkdir()
    (tmp_path / "r" / ".hydra" / "config.yaml").write_text("seed: 1\n")
    (tmp_path / "r" / "result.json").write_text('{"status": "finished", "step": 2, "config_hash": "x"}')
    before = contents(tmp_path)
    done = Warm("train.py", *words, *(() if words[0].startswith("resume") else FEW[:2]), cwd=tmp_path)
    assert done.end() == 2, done.stderr
    (error,) = done.stderr.splitlines()
    assert message in error
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        ["trainer.gradient_clip_val=0.01", "+trainer.gradient_clip_algorithm=norm,value"],
        ["optimizer._target_=torch.optim.AdamW,torch.optim.NAdam", "~optimizer.fused"],
    ],
    ids=" ".join,
)
def test_two_different_trainings_have_two_hashes(words: list[str], tmp_path: Path) -> None:
    done = ran("-m", *words, *FEW, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/result.json")]
    assert len({result["config_hash"] for result in results}) == 2


@pytest.mark.parametrize("damage", ["config", "other text", *slow(["corpus_sha256", ".hydra", "seed"])])
def test_a_finished_job_with_a_damaged_record_is_one_line(damage: str, tmp_path: Path) -> None:
    words = ("-m", "model=bigram", "seed=1", "sweep=s", *FEW)
    assert ran(*words, cwd=tmp_path).returncode == 0
    (path,) = tmp_path.glob("outputs/s/*/result.json")
    result, config = json.loads(path.read_text()), path.parent / ".hydra" / "config.yaml"
    match damage:
        case "corpus_sha256":
            path.write_text(json.dumps({key: value for key, value in result.items() if key != damage}))
        case ".hydra":
            shutil.rmtree(path.parent / ".hydra")
        case "config":
            config.write_text("[")
        case "seed":
            path.write_text(json.dumps({**result, "seed": 2}))
        case "other text":
            config.write_text("a: 1\n")
    again = ran(*words, cwd=tmp_path)
    assert again.returncode == 2
    (line,) = again.stderr.splitlines()
    assert "fresh=true" in line


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["experiment=speedrun", "optimizer.lr=0.05,0.06"], "speedrun-lr"),
        (["model=layernorm", "optimizer.lr=1,2"], "layernorm-lr"),
        (["seed=1,2"], "bigram-seed"),
        (["model=bigram,average", "seed=1,2"], "model"),
    ],
)
def test_an_unnamed_sweep_is_named_after_its_rung_and_what_it_sweeps(words: list[str], name: str) -> None:
    assert f"sweep={name}" in CommandLine(["-m", *words], CONF).sweep_arguments()
