"""What a run records of the process and the machine that train it: versions, commit, command, threads, memory."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from gptladder import __version__

# The environment variable that holds the command as the user typed it, also for the workers of a sweep.
COMMAND = "GPTLADDER_COMMAND"


def environment() -> dict[str, Any]:
    """Threads, versions, commit and command, for ``result.json``."""
    import lightning
    import torch

    return {
        "threads": torch.get_num_threads(),
        "versions": {
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
            "gptladder": __version__,
        },
        "git": _git(),
        "command": os.environ.get(COMMAND) or shlex.join(["python", *sys.argv]),
    }


def _git() -> dict[str, Any] | None:
    """The commit of the code, and whether the working tree differs from it; ``None`` outside a checkout.

    An installed package may lie within the repository of another project, whose commit would say nothing.
    """
    root = Path(__file__).parents[3]

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()

    try:
        is_ours = (root / "train.py").is_file() and Path(git("rev-parse", "--show-toplevel")) == root.resolve()
        if not is_ours:
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def peak_memory_mb() -> int:
    """The peak memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage() includes the memory of the parent process before exec
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 * 1024)
