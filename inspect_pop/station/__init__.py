"""The line's door: hook, service, watched folder, and the line's language (CFX).

`hook`, `client` and `answer` import nothing but the standard library: the hook is a fresh process for every board.
"""
