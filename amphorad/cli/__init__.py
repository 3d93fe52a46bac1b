"""The command line.

    arguments   the grammar: commands, options, their defaults, exit codes
    commands    one function per command that only asks or checks
    serve       the foreground process: supervisor, signals, the ready line
    logs        where log lines go

Nothing here decides anything about traffic.
"""
