"""The command line as Hydra reads it: its options and overrides, and the config that they compose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gptladder.cli.inherit import inherited_overrides
from gptladder.cli.script import usage_error
from gptladder.runs.configs import flatten
from gptladder.runs.naming import quote_override
from gptladder.system.errors import UserError

# The keys that decide whether a command is a sweep, and those that decide where Hydra finds these.
DECISIVE = ("experiment", "plan", "hydra.mode", "hydra.searchpath", "hydra/sweeper")

# The name of a sweep that has none and varies nothing; see conf/train.yaml.
DEFAULT_SWEEP = "multirun"

# Settings of Hydra that a run relies on, with the value that it needs and what to use instead of another one.
FIXED_SETTINGS = {
    "output_subdir": (".hydra", "a run is resumed from the config in .hydra"),
    "job.chdir": (None, "relative paths start from the directory of the command"),
    "sweep.subdir": ("${hydra.job.num}", "jobs are named by their overrides; sweep=NAME names the sweep"),
}


class CommandLine:
    """The arguments of the command that trains, parsed by Hydra's own parser.

    Args:
        arguments: without the name of the program.
        conf: the directory of the configs, unless ``--config-path`` names another.

    Attributes:
        overrides: such as ``model=multihead``.
        shows_only: it prints a config or help, and runs nothing.

    Raises:
        UserError: Hydra does not accept the options.
    """

    def __init__(self, arguments: list[str], conf: Path) -> None:
        parser = get_args_parser()
        parser.error = usage_error  # type: ignore[method-assign]
        self._options = options = parser.parse_args(arguments)
        shown = ("cfg", "info", "hydra_help", "shell_completion")
        given = [name for name in (*shown, "run", "multirun") if getattr(options, name)]
        if len(given) > 1:
            usage_error(" and ".join(f"--{name.replace('_', '-')}" for name in given) + " exclude each other")
        self.shows_only = bool(set(given) & set(shown))
        self._option_words = list(arguments)
        for override in options.overrides:
            self._option_words.remove(override)
        self._conf = conf
        if options.config_path:  # which Hydra would take relative to the module of the job
            self._conf = (conf.parent / options.config_path).absolute()
            self._option_words += ["--config-path", str(self._conf)]
        self._parse(options.overrides)
        inherited = inherited_overrides(self._parsed, lambda words: self._compose([*words, *self._decisive_words]))
        if inherited:
            self._parse([*inherited, *options.overrides])  # what the user gives comes last

    def _parse(self, overrides: list[str]) -> None:
        self.overrides = overrides
        self._parsed: list[Override] = OverridesParser.create().parse_overrides(overrides)
        self._decisive = [override for override in self._parsed if override.key_or_group in DECISIVE]
        self._decisive_words = [str(each.input_line) for each in self._decisive if not each.is_sweep_override()]

    def shown_arguments(self) -> list[str]:
        """The arguments that show a config or help."""
        return [*self._option_words, *self.overrides]

    def run_arguments(self, path: Path) -> list[str]:
        """The arguments of a single run in a directory."""
        return [*self._option_words, *self.overrides, *self._logging, f"hydra.run.dir={quote_override(str(path))}"]

    def sweep_arguments(self) -> list[str]:
        """The arguments of a sweep, with our sweeper unless something else chooses one."""
        chosen = any(override.key_or_group == "hydra/sweeper" for override in self._decisive)
        chosen = chosen or self._decisive_config.hydra.runtime.choices["hydra/sweeper"] != "basic"
        return [
            *self._option_words,
            *([] if self._options.multirun else ["--multirun"]),
            *self._job_overrides(),
            *self._logging,
            *self._sweep_name(),
            *([] if chosen else ["hydra/sweeper=ladder"]),
        ]

    def compose(self) -> DictConfig:
        """The config of a single run, with Hydra's own settings in it."""
        return self._compose(self.overrides)

    def check_settings(self) -> None:
        """Check the settings of Hydra, and of the places of runs, that runs rely on.

        Raises:
            UserError: names the setting, and what to use instead.
        """
        given = {override.key_or_group: override for override in self._parsed}
        if "run_dir" in given:
            raise UserError("run_dir is derived: use hydra.run.dir=DIR for a run, hydra.sweep.dir=DIR for a sweep")
        sweep = given["sweep"].value() if "sweep" in given else "unnamed"
        if sweep in (None, "") or not isinstance(sweep, str | int | float):
            raise UserError(f"sweep={sweep} must be a name")
        if Path(str(sweep)).is_absolute() or ".." in Path(str(sweep)).parts:
            raise UserError(f"sweep={sweep} is a name below outputs/: for another place use hydra.sweep.dir={sweep}")
        fixed = [f"hydra.{key}" for key in FIXED_SETTINGS]
        settings = [each for key, each in given.items() if any(f"{name}.".startswith(f"{key}.") for name in fixed)]
        if settings or self._decisive or self._option_words:  # else our own configs decide
            self._check_hydra(settings)

    def _check_hydra(self, settings: list[Override]) -> None:
        words = [str(each.input_line) for each in settings]
        cfg = self._compose([*self._decisive_words, *words]) if words else self._decisive_config
        values = dict(flatten(cast(dict[str, Any], OmegaConf.to_container(cfg.hydra))))
        for key, (needed, remedy) in FIXED_SETTINGS.items():
            if values.get(key) not in (needed, False if needed is None else needed):
                raise UserError(f"hydra.{key}={values.get(key)} is not possible here: {remedy}")

    @property
    def swept(self) -> list[str]:
        """The overrides with several values, such as ``seed=1,2``."""
        return [str(override.input_line) for override in self._parsed if override.is_sweep_override()]

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep: with ``-m``, by its experiment, or because it is a dry run.

        Raises:
            UserError: it sweeps over experiments that are sweeps themselves.
        """
        for override in self._decisive:
            if override.is_sweep_override():
                self._check_experiments(override)
        if self._options.multirun:
            return True
        if not self._decisive and not self._option_words:
            return False
        cfg = self._decisive_config
        plan = cfg.get("plan", False)
        if type(plan) is not bool:
            raise UserError(f"plan={plan} must be true or false")
        return plan or cfg.hydra.mode == RunMode.MULTIRUN

    @property
    def _logging(self) -> list[str]:
        """Show what libraries log if ``hydra.verbose`` asks for it; otherwise our configs silence them."""
        is_verbose = any(each.key_or_group == "hydra.verbose" and each.value() is not False for each in self._parsed)
        chosen = any(each.key_or_group == "hydra/job_logging" for each in self._parsed)
        return ["hydra/job_logging=stdout"] if is_verbose and not chosen else []

    def _sweep_name(self) -> list[str]:
        """A name for a sweep that has none, after what it sweeps: ``layernorm-lr``, or ``model`` over rungs."""
        swept = [override.key_or_group for override in self._parsed if override.is_sweep_override()]
        if not swept or self._decisive_config.get("sweep") != DEFAULT_SWEEP:
            return []
        if any(override.key_or_group in ("sweep", "hydra.sweep.dir") for override in self._parsed):
            return []
        keys = [key.rpartition(".")[2] for key in swept if key != "seed"] or ["seed"]
        if "model" not in swept:
            models = [each.value() for each in self._parsed if each.key_or_group == "model"]
            keys.insert(0, str(models[0] if models else self._decisive_config.rung))
        return [f"sweep={'-'.join(keys)}"]

    def _job_overrides(self) -> list[str]:
        """The overrides, such that Hydra checks a key that only some jobs have in each job.

        Hydra composes a config before it knows the swept choices. It leaves out overrides with several values, so that
        ``model.n_embd=16`` becomes a choice among one where that config has no such key.
        """
        overrides = [override for override in self._parsed if override.key_or_group != "hydra.mode"]
        lines = [str(override.input_line) for override in overrides]
        try:
            self._compose([line for line, each in zip(lines, overrides, strict=True) if not each.is_sweep_override()])
        except ConfigCompositionException:
            return [_as_choice(override) for override in overrides]
        return lines

    @cached_property
    def _decisive_config(self) -> DictConfig:
        return self._compose(self._decisive_words)

    def _check_experiments(self, override: Override) -> None:
        for choice in override.sweep_string_iterator() if override.key_or_group == "experiment" else ():
            if self._compose([f"experiment={choice}"]).hydra.mode == RunMode.MULTIRUN:
                raise UserError(
                    f"{override.input_line}: experiment={choice} has jobs of its own: start one command for each"
                )

    def run(self, job: Callable[[DictConfig], Any]) -> None:
        """Run a job in this process as ``hydra.main`` would, but leave Python's logging as the caller configured it."""
        with self._hydra() as hydra:
            version.setbase("1.3")
            hydra.run(self._config_name, job, self.overrides, with_log_configuration=False)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        with self._hydra() as hydra:
            return hydra.compose_config(self._config_name, list(overrides), RunMode.RUN)

    @property
    def _config_name(self) -> str:
        return self._options.config_name or "train"

    @contextmanager
    def _hydra(self) -> Iterator[Hydra]:
        """Hydra with the search path that the options name."""
        search_path = create_config_search_path(str(self._conf.absolute()))
        if self._options.config_dir is not None:
            directory = Path(self._options.config_dir).absolute()
            if not directory.is_dir():
                raise UserError(f"--config-dir {self._options.config_dir} is not a directory")
            search_path.prepend("command-line", f"file://{directory}", SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        try:
            yield Hydra.create_main_hydra2("train", search_path)
        finally:
            GlobalHydra.instance().clear()


def _as_choice(override: Override) -> str:
    """An override of one key as a sweep over one value; others as they are."""
    line = str(override.input_line)
    key, equals, value = line.partition("=")
    if override.is_sweep_override() or override.is_hydra_override() or not equals or "." not in key:
        return line
    return f"{key}=choice({value})"
