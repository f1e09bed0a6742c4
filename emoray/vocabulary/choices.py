"""Words that options choose among; no library is loaded to know them."""

from __future__ import annotations

import re
from typing import Literal

OnError = Literal["fail", "skip"]
"""`fail`: the first recording that cannot be read ends the build; what is written stays for the
next start. `skip`: it is quarantined in the manifest, with the error's text."""

Gather = Literal["auto", "worker", "cluster"]
"""Where row numbers become tensors: in the worker, or in Ray Data actors across the cluster."""

FoldChoice = Literal["all", "rotate"]
"""`all` folds for every seed; or seed i takes fold i, so that as many runs as there are seeds go
once round, and their spread is one over people (or clips) as well as over seeds."""

PretrainSeeds = Literal["one", "each"]
"""`one` pretraining, of the first seed, serves every seed (the paper tells of one, of 20 hours);
or one for `each`, and the spread over seeds is one over pretrainings too."""


def short(table: str) -> str:
    """A table's name as one types it: `table3` of `table_3`, `table_dreamer` of itself."""
    return re.sub(r"_(?=\d)", "", table, count=1)


def is_named(table: str, asked: str) -> bool:
    """Whether somebody who asks for this table means it: underscores are no difference."""
    return table.replace("_", "") == asked.replace("_", "")
