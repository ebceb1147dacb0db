"""The command line as Hydra reads it: its options and overrides, and the config that they compose."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from gptladder.cli.script import usage_error
from gptladder.system.errors import UserError

# The keys that decide whether a command is a sweep, and those that decide where Hydra finds these.
DECISIVE = ("experiment", "plan", "hydra.mode", "hydra.searchpath", "hydra/sweeper")


class CommandLine:
    """The arguments of ``train.py``, parsed by Hydra's own parser.

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
        self._options = parser.parse_args(arguments)
        self.overrides: list[str] = self._options.overrides
        self._option_words = list(arguments)
        for override in self.overrides:
            self._option_words.remove(override)
        self._conf = conf.parent / self._options.config_path if self._options.config_path else conf
        options = self._options
        self.shows_only = bool(options.cfg or options.info or options.hydra_help or options.shell_completion)

    def arguments(self, *overrides: str) -> list[str]:
        """The arguments with further overrides."""
        return [*self._option_words, *self.overrides, *overrides]

    def compose(self, *overrides: str) -> DictConfig:
        """The config of a single run with further overrides, with Hydra's own settings in it."""
        return self._compose([*self.overrides, *overrides])

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
        cfg = self._compose_decisive()
        plan = cfg.get("plan", False)
        if type(plan) is not bool:
            raise UserError(f"plan={plan} must be true or false")
        return plan or cfg.hydra.mode == RunMode.MULTIRUN

    @property
    def sweep_overrides(self) -> list[str]:
        """The overrides that make Hydra run it as a sweep, with our sweeper unless something else chooses one."""
        chosen = any(override.key_or_group == "hydra/sweeper" for override in self._decisive)
        chosen = chosen or self._compose_decisive().hydra.runtime.choices["hydra/sweeper"] != "basic"
        return ["hydra.mode=MULTIRUN", *([] if chosen else ["hydra/sweeper=ladder"])]

    @cached_property
    def _decisive(self) -> list[Override]:
        overrides = OverridesParser.create().parse_overrides(self.overrides)
        return [override for override in overrides if override.key_or_group in DECISIVE]

    def _compose_decisive(self) -> DictConfig:
        return self._compose([str(each.input_line) for each in self._decisive if not each.is_sweep_override()])

    def _check_experiments(self, override: Override) -> None:
        for choice in override.sweep_string_iterator() if override.key_or_group == "experiment" else ():
            if self._compose([f"experiment={choice}"]).hydra.mode == RunMode.MULTIRUN:
                raise UserError(
                    f"{override.input_line}: experiment={choice} has jobs of its own: start one command for each"
                )

    def _compose(self, overrides: list[str]) -> DictConfig:
        search_path = create_config_search_path(str(self._conf.absolute()))
        if self._options.config_dir is not None:
            directory = Path(self._options.config_dir).absolute()
            if not directory.is_dir():
                raise UserError(f"--config-dir {self._options.config_dir} is not a directory")
            search_path.prepend("command-line", f"file://{directory}", SearchPathQuery(provider="schema"))
        GlobalHydra.instance().clear()
        try:
            hydra = Hydra.create_main_hydra2("train", search_path)
            return hydra.compose_config(self._options.config_name or "train", overrides, RunMode.RUN)
        finally:
            GlobalHydra.instance().clear()
