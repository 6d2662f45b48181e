"""The commands of the command line, a module each, imported when it is asked for.

Each has `run(config, options)`, which prints to stdout and returns the exit status.
"""
