"""The station on the line: the command that the line calls (`hook`), the HTTP service, and the watched folder.

`hook` and `contract` import the standard library only: the hook is a new process for every board.
"""
