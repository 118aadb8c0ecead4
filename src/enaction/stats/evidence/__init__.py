"""Evidence, token by token, against "each token was sampled from this distribution": e-processes.

The null says that each token of a text was drawn from a known distribution p given all before it. A bet is another
distribution q, fixed before the token is seen; its factor r = q(x)/p(x) has mean 1 under the null, so that products of
factors, and mixtures of such products, exceed 1/alpha at any time with probability alpha at most (Ville 1939; Shafer
2021; Ramdas, Grünwald, Vovk and Shafer 2023). `nulls` says what is known of p, `bets` which q there are, `cells` what
is exact of another reader, `processes` how bets are mixed, `prefill` where a text can have become the model's,
`changes` where it ceased to be, `many` which of many texts are reported.

Axes: `N` tokens, `E` bets, `B` exponents. In nats.
"""

from enaction.stats.evidence.bets import Bets, bets_on
from enaction.stats.evidence.cells import Listed, common_cells
from enaction.stats.evidence.changes import change_path
from enaction.stats.evidence.many import e_bh
from enaction.stats.evidence.nulls import BETAS, Null, smallest_temperatures
from enaction.stats.evidence.prefill import fewest_foreign
from enaction.stats.evidence.processes import Stream, passage_path

__all__ = [
    "BETAS",
    "Bets",
    "Listed",
    "Null",
    "Stream",
    "bets_on",
    "change_path",
    "common_cells",
    "e_bh",
    "fewest_foreign",
    "passage_path",
    "smallest_temperatures",
]
