"""The command line: the tools as commands, and the commands that are no tools."""
