"""One causal language model: load it, locate its body and head, and read passages with it."""

from enaction.reader.reader import Progress, Reader
from enaction.reader.statistics import TokenStats, Wanted
from enaction.reader.streaming import token_statistics

__all__ = ["Progress", "Reader", "TokenStats", "Wanted", "token_statistics"]
