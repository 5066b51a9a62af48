"""Entry point of the command `autotrace`: Ctrl-C during the import ends it with exit code 130.

It lies outside of the package, because the import of any module of `autotrace` imports the package
first, which takes most of the time.
"""

import os
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it."""
    try:
        from autotrace.cli import main as run
    except KeyboardInterrupt:
        os._exit(130)
    run()
