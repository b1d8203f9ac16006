"""`python -m shared_tests` is the command `trihead`."""

from shared_tests.cli import main

main()
