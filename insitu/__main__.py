"""`python -m insitu`: the command line, where no script of it is at hand."""

from insitu.cli import main

main()
