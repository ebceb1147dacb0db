"""The choice between the plain code and ``gptladder.fast``; the only module that imports that package.

Every function here has a plain answer where the package is absent. It imports neither torch nor Lightning, so that
start-up can use it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from gptladder.system.errors import UserError

if TYPE_CHECKING:
    import lightning.pytorch as L
    from torch import nn

Fast = Literal["auto"] | bool

AVAILABLE = find_spec("gptladder.fast") is not None


def gc_paused() -> AbstractContextManager[None]:
    """Pause Python's garbage collector while the body imports large packages."""
    if not AVAILABLE:
        return nullcontext()
    from gptladder.fast.gc import gc_paused

    return gc_paused()


def check_fast(fast: Any) -> None:
    """Check the value of the key ``fast``.

    Raises:
        UserError: it is neither auto, true nor false, or true without the package.
    """
    if fast != "auto" and type(fast) is not bool:
        raise UserError(f"fast={fast} must be auto, true or false")
    if fast is True and not AVAILABLE:
        raise UserError("fast=true needs the package gptladder.fast, which is not there: use fast=auto or fast=false")


def prepare_for_generation(net: nn.Module, *, same_bits: bool = False) -> nn.Module:
    """A copy of a network with shared weights that generates faster, or the network itself.

    Args:
        same_bits: the logits are equal, not only to rounding.
    """
    if not AVAILABLE:
        return net
    from gptladder.fast.generation import can_decode, lean_copy

    lean = lean_copy(net)
    if not same_bits and can_decode(lean) and find_spec("numba") is not None:
        from gptladder.fast.numba_decoding import use_numba_decoding

        use_numba_decoding(lean)  # type: ignore[arg-type]
    return lean


def use_fast_kernels(net: nn.Module, fast: Fast) -> None:
    """Use compiled loops for attention, training steps and evaluations with short context, if Numba is installed."""
    if fast is False or not AVAILABLE:
        return
    if find_spec("numba") is None or not _has_short_attention(net):  # importing it takes a quarter of a second
        return
    from gptladder.fast.numba_attention import use_numba_attention
    from gptladder.fast.numba_gpt import use_numba_gpt

    use_numba_attention(net)
    use_numba_gpt(net)


def _has_short_attention(net: nn.Module) -> bool:
    from gptladder.model.attention import SHORT_CONTEXT, CausalSelfAttention

    return any(isinstance(part, CausalSelfAttention) and part.block_size <= SHORT_CONTEXT for part in net.modules())


def choose_loops(
    trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, fast: Fast, *, threads: int
) -> None:
    """Give the trainer the fast loops where nothing else observes single steps.

    Args:
        fast: ``auto`` says in one line why the plain loops are used; ``True`` insists; ``False`` never uses them.
        threads: batches that an evaluation may compute in parallel.

    Raises:
        UserError: ``fast`` is true and something observes single steps; the message names it.
    """
    if fast is False or not AVAILABLE:
        return
    from gptladder.fast.training_loop import install_loops
    from gptladder.training.callbacks.nonfinite import nonfinite_error
    from gptladder.training.observers import find_observer

    observer = find_observer(trainer, module, data)
    if observer is None:
        install_loops(trainer, threads=threads, nonfinite_error=nonfinite_error)
    elif fast is True:
        raise UserError(f"fast=true is not possible, because {observer}: use fast=auto or fast=false")
    elif trainer.is_global_zero:
        print(f"fast=auto: using the plain training loop, because {observer}")


def chosen_path(trainer: L.Trainer) -> Literal["fast", "plain"]:
    """Which loops a trainer has."""
    return "plain" if type(trainer.fit_loop.epoch_loop).__module__.startswith("lightning.") else "fast"
