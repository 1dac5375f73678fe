"""`python -m catfish`, the same as the command `catfish`."""

from catfish.cli import main

if __name__ == "__main__":
    main()
