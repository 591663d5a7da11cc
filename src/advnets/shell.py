"""Words of command lines that messages suggest, quoted so that they can be pasted into a shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def shell_word(text: str | Path) -> str:
    r"""Return a path or a source of data as one word of a shell's command line.

    A leading dash, which would make it an option, comes after `./`. What cannot be printed, such as
    a newline, is written as bash and zsh read it: $'a\x0ab'.
    """
    word = str(text)
    if word.startswith("-"):
        word = f"./{word}"
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
