"""What the config names by ``_target_`` is built, or one line says why not."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra.errors import InstantiationException

from gptladder.system.errors import UserError
from gptladder.training.construct import construct

CALLBACKS = "lightning.pytorch.callbacks"


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's with classes that fail in every way."""
    module = ModuleType("own")

    def raising(error: Exception) -> Any:
        def build(**_: Any) -> None:
            raise error

        return build

    module.wrong_value = raising(ValueError("x must be 3.\nA second line"))  # type: ignore[attr-defined]
    module.a_bug = raising(TypeError("'NoneType' object is not subscriptable"))  # type: ignore[attr-defined]
    module.missing = raising(ModuleNotFoundError("No module named 'thing.part'"))  # type: ignore[attr-defined]
    module.ours = raising(UserError("data.path=x cannot be read: check the path"))  # type: ignore[attr-defined]
    module.keep = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own", module)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": f"{CALLBACKS}.EarlyStoping"}, f"_target_={CALLBACKS}.EarlyStoping cannot be imported"),
        ({"_target_": "lightning.pytorch.calbacks.EarlyStopping"}, "calbacks.EarlyStopping cannot be imported"),
        ({"_target_": "nowhere.at.all"}, "nowhere.at.all cannot be imported: check its spelling"),
        ({"_target_": f"{CALLBACKS}.EarlyStopping"}, "missing 1 required positional argument: 'monitor'"),
        ({"_target_": f"{CALLBACKS}.Timer", "depth": 3}, "unexpected keyword argument 'depth'"),
        ({"_target_": f"{CALLBACKS}.ModelCheckpoint", "mode": "lower"}, "`mode` can be "),
        ({"_target_": "own.wrong_value"}, "x must be 3: change it, remove it, or add what is missing"),
        ({"_target_": "own.missing"}, "needs thing, which is not installed: pip install thing"),
        ({"_target_": "own.ours"}, "data.path=x cannot be read: check the path"),
    ],
    ids=lambda value: value.get("_target_") if isinstance(value, dict) else None,
)
def test_a_mistake_in_the_config_is_one_line_with_its_key(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        construct({"part": node})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("part") or node["_target_"] == "own.ours"


def test_an_error_inside_a_constructor_keeps_its_traceback() -> None:
    with pytest.raises(InstantiationException, match="not subscriptable"):
        construct({"part": {"_target_": "own.a_bug"}})


def test_arguments_are_plain_containers(tmp_path: Path) -> None:
    built = construct({"_target_": "own.keep", "a": {"b": [1, {"c": 2}]}})
    assert built == {"a": {"b": [1, {"c": 2}]}}
    assert type(built["a"]) is dict
    assert type(built["a"]["b"]) is list


def test_the_causes_of_an_error_end() -> None:
    with pytest.raises(UserError) as refused:
        construct({"part": {"_target_": "own.ours"}})
    causes: list[BaseException] = []
    error: BaseException | None = refused.value
    while error is not None:
        assert error not in causes
        causes.append(error)
        error = error.__cause__ or error.__context__
    assert len(causes) >= 3
