"""The commands of the command line, one module each, imported only when used.

Each module has `run(config, options)`, which prints to stdout and returns the exit status.
"""
