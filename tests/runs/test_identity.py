"""The identity of a run consists of choices and values."""

import inspect

import pytest
from omegaconf import OmegaConf

from gptladder.model.gpt import GPT
from gptladder.runs.identity import MODEL_DEFAULTS, config_hash
from helpers.configs import composed


@pytest.mark.parametrize("key", MODEL_DEFAULTS)
def test_a_key_that_is_left_out_is_the_same_as_its_default(key: str) -> None:
    config = OmegaConf.to_container(composed("model=multihead", "run_dir=x"), resolve=True)
    config["choices"] = {}
    full = config_hash(config, "text")
    del config["model"][key]
    assert config_hash(config, "text") == full
    config["model"][key] = "another"
    assert config_hash(config, "text") != full


def test_the_keys_that_a_config_may_leave_out_have_the_defaults_of_the_network() -> None:
    parameters = inspect.signature(GPT).parameters
    assert {key: parameters[key].default for key in MODEL_DEFAULTS} == MODEL_DEFAULTS
    lists = composed("model=embedding", "run_dir=x").model
    assert set(parameters) - {"vocab_size"} == set(lists) - {"_target_"}
    assert {key: lists[key] for key in MODEL_DEFAULTS} == MODEL_DEFAULTS
