"""Read S-expressions as KiCad writes them: nested lists of words, one pass, without recursion."""

import re
from pathlib import Path

from inspect_pop.core.errors import RecipeFault

__all__ = ["Node", "find_nodes", "find_value", "parse_expression"]

Node = list["Node | str"]

MOST_DEEP = 64  # lists within lists: boards have about ten
_TOKEN = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_expression(path: Path, text: str) -> Node:
    """Parse one list; words and quoted texts are strings. Raises `RecipeFault` for what is not one complete list."""
    top: Node = []
    stack = [top]
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            raise RecipeFault(f"{path}: character {at:,}", expected="an S-expression", found="a quotation that does not close")
        at = token.end()
        if token[1]:
            inner: Node = []
            stack[-1].append(inner)
            stack.append(inner)
            if len(stack) > MOST_DEEP:
                raise RecipeFault(f"{path}: character {at:,}", expected=f"at most {MOST_DEEP} lists in one another", found="more")
        elif token[2]:
            stack.pop()
            if not stack:
                break
        else:
            stack[-1].append(_ESCAPED.sub(r"\1", token[3]) if token[3] is not None else token[4])
        if len(stack) == 1 and at < end:
            break
    if len(stack) != 1 or len(top) != 1 or not isinstance(top[0], list) or at < end:
        found = "one that is cut short" if len(stack) > 1 else "something else"
        raise RecipeFault(str(path), expected="one complete S-expression, as KiCad writes it", found=found)
    return top[0]


def find_nodes(node: Node, *names: str) -> list[Node]:
    """Return the lists directly inside a list that begin with one of these words."""
    return [child for child in node if isinstance(child, list) and child and child[0] in names]


def find_value(node: Node, name: str) -> Node | None:
    """Return what follows the word in the first list inside a list that begins with it; None without such a list."""
    found = find_nodes(node, name)
    return found[0][1:] if found else None
