"""The columns of TensorBoard's HParams tab: what differs among the runs, then the losses, the exact one first.

TensorBoard can collect the columns itself, but then sorts the metrics by name and shows five of them; ``val/loss`` is
the sixth. It reads one description of the columns for all runs that it shows. So each run describes the columns of
every config of this project, not only its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import metadata  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.api_pb2 import (  # type: ignore[import-untyped]
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from gptladder.runs.configs import CONF
from gptladder.runs.naming import VARYING
from gptladder.system.records import read_yaml
from gptladder.training.hyperparameters import CHOICES, hyperparameters, shown_key

# Not train/lr and train/tokens, which are no results.
METRICS = ("val/loss", "val/estimate", "train/estimate", "train/loss")

# TensorBoard shows five hyperparameters until the user chooses others: those that vary in a sweep, then these.
N_SHOWN = 5
USUAL = ("rung", "lr", "seed", "n_layer", "n_embd")

GROUPS = ("model", "data", "tokenizer", "optimizer", "scheduler", "trainer", "hardware", "callbacks", "experiment")


def columns(params: dict[str, Any]) -> Summary:
    """The description of the columns, for a run with some hyperparameters."""
    types = _known_types() | {name: _type(value) for name, value in params.items()}
    varying = [name for key in os.environ.get(VARYING, "").split(",") if (name := shown_key(key)) in types]
    first = [name for name in dict.fromkeys([*varying, *USUAL]) if name in types][: max(N_SHOWN, len(varying))]
    hparam_infos = [HParamInfo(name=name, type=kind, differs=name in first) for name, kind in types.items()]
    metric_infos = [MetricInfo(name=MetricName(tag=tag)) for tag in METRICS]
    experiment = Experiment(hparam_infos=hparam_infos, metric_infos=metric_infos)
    content = HParamsPluginData(experiment=experiment, version=metadata.PLUGIN_DATA_VERSION).SerializeToString()
    plugin_data = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content)
    summary = Summary.Value(tag=metadata.EXPERIMENT_TAG, metadata=SummaryMetadata(plugin_data=plugin_data))
    return Summary(value=[summary])


@cache
def _known_types() -> dict[str, int]:
    """The types of the hyperparameters in the configs of this project."""
    types = dict.fromkeys(CHOICES, DATA_TYPE_STRING)
    for group in GROUPS:
        for path in sorted((CONF / group).glob("*.yaml")):
            content = read_yaml(path)
            is_global = "@package _global_" in path.read_text().partition("\n")[0]
            values = hyperparameters(content if is_global else {group: content})
            types |= {name: _type(value) for name, value in values.items() if "${" not in str(value)}
    return types


def _type(value: Any) -> int:
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)  # YAML's parser takes 1e-5 for a text
    types: dict[type, int] = {bool: DATA_TYPE_BOOL, int: DATA_TYPE_FLOAT64, float: DATA_TYPE_FLOAT64}
    return int(types.get(type(value), DATA_TYPE_STRING))
