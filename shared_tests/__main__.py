"""`python -m shared_tests` is the command `trihead`."""

from shared_tests.commands.app import main

if __name__ == "__main__":
    main()
