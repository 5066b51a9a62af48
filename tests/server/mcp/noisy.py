"""A module of policies and an embedder that write to standard output, each way there is."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

from autotrace.decisions.policies import policy
from tests.embedders import HashEmbedder


def make_noise(who: str) -> None:
    print(f"print of {who}")
    sys.stdout.write(f"stdout of {who}\n")
    sys.__stdout__.write(f"__stdout__ of {who}\n")  # type: ignore[union-attr] - there is one
    os.write(1, f"descriptor of {who}\n".encode())
    ctypes.CDLL(None).puts(f"C of {who}".encode())
    subprocess.run(["echo", f"child of {who}"], check=True)
    ctypes.CDLL(None).fflush(None)


make_noise("import")


@policy("noisy")
def noisy(inputs: dict[str, Any]) -> Any:
    make_noise(f"policy {inputs}")
    return "deny" if sys.stdin.read() else "allow"


class Noisy(HashEmbedder):
    def embed(self, texts: Any) -> Any:
        make_noise("embedder")
        return super().embed(texts)
