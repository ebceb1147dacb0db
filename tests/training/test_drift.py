"""A run with a defect does not match the published curve, also on the rungs that amplify rounding."""

from pathlib import Path

import pytest

from gptladder.runs.published import compare, published
from helpers.configs import trained
from helpers.marks import slow

QUIET = ("callbacks=default", "~callbacks.samples", "~callbacks.attention_maps", "logger=none")
CHAOTIC = ("feedforward", "blocks", "residual", "layernorm")

# The step at which each defect shows at the latest: those that change the initial weights or the data show at once.
DEFECTS = {
    "optimizer.lr=0.00105": 200,
    "model.scale=false": 200,
    "model.bias=false": 1,
    "model.n_layer=4": 1,
    "seed=1338": 1,
    "data.split=0.89": 1,
}


@pytest.mark.parametrize("rung", ["multihead", "layernorm", *slow(rung for rung in CHAOTIC if rung != "layernorm")])
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_a_drift_within_its_first_steps(defect: str, rung: str, tmp_path: Path) -> None:
    if defect == "model.n_layer=4" and rung in ("multihead", "feedforward"):
        defect = "model.n_layer=2"
    result = trained(tmp_path, f"model={rung}", defect, f"trainer.max_steps={DEFECTS.get(defect, 1)}", *QUIET)
    assert result["published"] is None  # another recipe; here it pretends to be the published one
    compared = compare(rung, published()[rung]["recipe"], result["curve"])
    assert compared is not None
    assert compared["verdict"] == "DRIFT"
    assert compared["worst_abs_diff"] > compared["tolerance"]
