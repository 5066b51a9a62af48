"""`python -m autotrace.cli` is `autotrace`."""

from autotrace.cli import main

main()
