"""What a test hands on to whoever asked for figures.

`record_property` is pytest's own: what it is given goes into the file of `--junitxml`,
where `benchmarks/floors.py` reads it.
"""

from collections.abc import Callable

Record = Callable[[str, object], None]
