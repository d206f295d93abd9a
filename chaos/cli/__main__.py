"""`python -m chaos.cli`: the same as the installed command."""

from chaos.cli import main

main()
