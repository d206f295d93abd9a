"""`python run.py …` from a checkout: the same as the installed `testbed` command."""

from chaos.cli import main

if __name__ == "__main__":
    main()
