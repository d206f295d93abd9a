"""What the logs of a run say: all of them as one, what became of one operation, how fast the cluster recovered.

`book.Logbook` reads the files, `operations` finds an operation and what the nodes noted about it, `journey` puts that
into words, `recovery` measures. Only the first two read files; none of them writes one, or reads a clock.
"""

from chaos.logbook.book import Logbook
from chaos.logbook.files import LEVELS, Entry

__all__ = ["LEVELS", "Entry", "Logbook"]
