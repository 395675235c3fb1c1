"""`python -m persodpo`: see `persodpo.cli`."""

from persodpo.cli import main

main()
