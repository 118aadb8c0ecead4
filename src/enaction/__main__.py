"""`python -m enaction`: the command line, where the script `enaction` is not on the path."""

from enaction.cli import main

if __name__ == "__main__":
    main()
