"""The command line: parse, build, call, print. One file per command; nothing heavy is imported before it runs."""
