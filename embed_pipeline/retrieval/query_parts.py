"""A question in its parts: what several concerns in one text are searched as, each for itself.

Belongs here: where a text is cut. Does not belong here: what the parts' scores count (hybrid.py).
"""

import re

# Marks that end a clause or stand between two things of a list, in Chinese and in English. Not the comma of 1,000 and
# not the point of 3.5; white space alone only between two Chinese characters.
_CUT = re.compile(r"[，。、；;？?！!\r\n|]|,(?!\d)|(?<!\d),|\.(?=\s|$|[^\x00-\x7f])|(?<=[一-鿿])\s+(?=[一-鿿])")
_SAYS = re.compile(r"\w")
MIN_CHARACTERS = 2
MAX_PARTS = 32


def split_query(text: str) -> tuple[str, ...]:
    """The clauses of a text in order, each once, at most MAX_PARTS; a text of one clause has none.

    A clause of fewer than MIN_CHARACTERS letters and digits says too little to be searched for and is left out.
    """
    clauses = [clause.strip() for clause in _CUT.split(text)]
    parts = tuple(dict.fromkeys(clause for clause in clauses if len(_SAYS.findall(clause)) >= MIN_CHARACTERS))
    return parts[:MAX_PARTS] if len(parts) > 1 else ()
