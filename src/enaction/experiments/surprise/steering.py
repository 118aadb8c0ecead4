"""Steering: clamp the trace of surprise in a reader's states to that of another level, and see what its entropy does.

Directions come from the prompts of one half and are used on those of the other, both ways round. A target is a bin of
the trace; every token of a key is set to the coordinates of that key's centroid of the bin, at all layers from 1 on, so
that what was known before the token (the key) stays as it is.

Rows give sums over a prompt's tokens of one key, so that everything else is arithmetic over prompts.

Axes: N token, C channel, K key, B bin, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enaction.experiments.clean import Clean
from enaction.experiments.surprise.rows import Rows
from enaction.reader import Reader
from enaction.reader.interventions import Edit, Spot, Treated
from enaction.stats import bins
from enaction.stats.directions import Centroids, centroids, matched, rotated

# What is done to the tokens of a key under a target: the residual layer -> basis and coordinates [K, B, r].
Plane = tuple[np.ndarray, np.ndarray]
KEYS = ("none", "entropy", "token")
# Tokens that are keys of their own, the commonest first.
N_TOKENS = 40
HALF_LIFE = 16


@dataclass(frozen=True)
class Keyed:
    """How the tokens of one half are put into cells, by edges and names from the other half.

    fit: cells of the half that directions come from, with its codes; edges: of the bins; key_of: the key of each token.
    """

    key_fit: np.ndarray
    bin_fit: np.ndarray
    key_use: np.ndarray
    bin_use: np.ndarray
    cells: bins.Cells
    natural_entropy: np.ndarray
    natural_trace: np.ndarray


class Bench:
    """One reader, directions from one half of the prompts, passes over the other half.

    Attributes:
        fit: tokens that directions come from.
        use: tokens that are steered.
        layers: residual layers that are clamped.
    """

    def __init__(self, reader: Reader, fit: Clean, use: Clean, layers: Sequence[int], n_bins: int) -> None:
        self.fit, self.use, self.layers, self.n_bins = fit, use, tuple(layers), n_bins
        self._treated = Treated(reader, use.framed)

    def trace(self, of: Clean, name: str) -> np.ndarray:
        """[N] what the bins are of: `surprise`, `running`, or an outcome, `entropy`."""
        if name == "running":
            return of.running(HALF_LIFE)
        return of.surprisal if name == "surprise" else of.next_entropy

    def keyed(self, trace: str, key: str) -> Keyed:
        """Both halves by cells of key and bin of a trace.

        `residual` is the next entropy less its mean in the cell of key and surprise: what surprise leaves of it.
        """
        if trace == "residual":
            by = self.keyed("surprise", key)
            shape = (by.cells.count.shape[0], by.cells.count.shape[1])
            means = np.nan_to_num(bins.cell_means(self.fit.next_entropy, by.key_fit, by.bin_fit, shape))
            fit = self.fit.next_entropy - means[by.key_fit, by.bin_fit]
            use = self.use.next_entropy - means[by.key_use, by.bin_use]
        else:
            fit, use = self.trace(self.fit, trace), self.trace(self.use, trace)
        edge = bins.edges(fit, self.n_bins, has_floor=trace != "residual")
        key_fit, key_use, n_keys, rest = self._keys(key)
        n_bins = len(edge) + 1
        bin_fit, bin_use = bins.binned(fit, edge), bins.binned(use, edge)
        cells = bins.cells(key_fit, bin_fit, n_keys, n_bins)
        if rest is not None:
            cells.usable[rest] = False
        shape = (n_keys, n_bins)
        return Keyed(
            key_fit,
            bin_fit,
            key_use,
            bin_use,
            cells,
            bins.cell_means(self.fit.next_entropy, key_fit, bin_fit, shape),
            bins.cell_means(fit, key_fit, bin_fit, shape),
        )

    def _keys(self, key: str) -> tuple[np.ndarray, np.ndarray, int, int | None]:
        """Codes of both halves, their number, and the code of tokens that have no key of their own."""
        if key == "none":
            return np.zeros(len(self.fit.passage), int), np.zeros(len(self.use.passage), int), 1, None
        if key == "entropy":
            edge = bins.edges(self.fit.entropy, 4)
            return bins.binned(self.fit.entropy, edge), bins.binned(self.use.entropy, edge), len(edge) + 1, None
        names, counts = np.unique(self.fit.token, return_counts=True)
        common = {token: i for i, token in enumerate(names[np.argsort(-counts, kind="stable")[:N_TOKENS]].tolist())}
        # The token alone does not hold fixed what was known before it, so each is split at the median of H_t.
        rest, median = 2 * len(common), np.median(self.fit.entropy)
        fit, use = (
            np.array(
                [
                    2 * common[token] + high if token in common else rest
                    for token, high in zip(of.token.tolist(), (of.entropy > median).tolist(), strict=True)
                ]
            )
            for of in (self.fit, self.use)
        )
        return fit, use, rest + 1, rest

    def centroids(self, keyed: Keyed, layer: int) -> Centroids:
        """Centroids of one layer."""
        return centroids(self.fit.states[layer], keyed.key_fit, keyed.bin_fit, keyed.cells)

    def residuals(self, keyed: Keyed, layer: int) -> np.ndarray:
        """[N, C] states of usable tokens less their cell's centroid."""
        of = self.centroids(keyed, layer)
        keep = keyed.cells.usable[keyed.key_fit, keyed.bin_fit]
        key, bin_ = keyed.key_fit[keep], keyed.bin_fit[keep]
        return self.fit.states[layer][keep] - of.mean[key] - of.deviation[key, bin_]

    def clamp(
        self, planes: Mapping[int, Plane], keep_N: np.ndarray, key_N: np.ndarray, bin_N: np.ndarray
    ) -> np.ndarray:
        """[N] entropy after every kept token is set to the coordinates of a cell, at each layer."""
        where = self.use.where(keep_N)
        bounds = np.cumsum([len(at) for at in where])[:-1]
        edits = [
            Edit(Spot(layer), where, np.split(coordinates[key_N[keep_N], bin_N[keep_N]], bounds), "set", basis)
            for layer, (basis, coordinates) in planes.items()
        ]
        return self._next_entropy(edits)

    def add(self, layer: int, moved: np.ndarray, keep_N: np.ndarray) -> np.ndarray:
        """[N] entropy after a vector is added to every kept token at one layer; moved: [kept, C]."""
        where = self.use.where(keep_N)
        values = np.split(moved, np.cumsum([len(at) for at in where])[:-1])
        return self._next_entropy([Edit(Spot(layer), where, values)])

    def _next_entropy(self, edits: Sequence[Edit]) -> np.ndarray:
        scores = self._treated.read(edits).scores
        return np.concatenate(
            [
                score.entropy[at - f.start + 1]
                for score, at, f in zip(scores, self.use.where(), self.use.framed, strict=True)
            ]
        ).astype(np.float64)


@dataclass(frozen=True)
class Plans:
    """How much is steered.

    Attributes:
        ranks: of the clamp.
        draws: of each random control.
        targets: bins that are clamped to, at most; controls take the lowest, a middle and the highest.
        profile: layers of the profile, at most.
        keys: beside the primary key, `entropy`, which of `KEYS`.
    """

    ranks: tuple[int, ...] = (1, 2, 4)
    draws: int = 10
    targets: int = 5
    profile: int = 4
    keys: tuple[str, ...] = KEYS


def steer(bench: Bench, plans: Plans, fold: int, seed: int, rows: Rows, step: Callable[[], None]) -> None:
    """Every clamp of a half, as sums over prompts and keys."""
    for request in requests(plans, bench.layers):
        _carry_out(bench, request, fold, seed, rows, step)


@dataclass(frozen=True)
class Request:
    """One sweep over targets: what the directions are of, within which key, of which rank, real or a control."""

    trace: str
    key: str
    rank: int
    kind: str = "centroid"
    draw: int = 0
    layer: int = 0
    sign: int = 1
    targets: int = 5


def requests(plans: Plans, layers: Sequence[int]) -> list[Request]:
    """What is done, the most telling first."""
    asked = [Request("surprise", "entropy", rank, targets=plans.targets) for rank in plans.ranks]
    for key in plans.keys:
        if key != "entropy":
            ranks = plans.ranks[:2] if key == "none" else plans.ranks[:1]
            asked += [Request("surprise", key, rank, targets=plans.targets) for rank in ranks]
    asked += [
        Request("surprise", "entropy", 1, kind, draw, targets=3)
        for kind in ("rotated", "matched", "shuffled")
        for draw in range(plans.draws)
    ]
    asked += [Request("entropy", "none", 2, targets=plans.targets), Request("residual", "entropy", 1, targets=3)]
    asked.append(Request("running", "entropy", 1, targets=3))
    spread = np.unique(np.linspace(0, len(layers) - 1, min(plans.profile, len(layers))).round().astype(int))
    asked += [
        Request("surprise", "entropy", 0, "added", layer=layers[i], sign=sign, targets=2)
        for i in spread
        for sign in (1, -1)
    ]
    return asked


def passes(plans: Plans, layers: Sequence[int]) -> int:
    """How many passes over the passages `steer` makes at most, in one half."""
    return sum(request.targets for request in requests(plans, layers))


def _carry_out(bench: Bench, request: Request, fold: int, seed: int, rows: Rows, step: Callable[[], None]) -> None:
    keyed = bench.keyed(request.trace, request.key)
    targets = _targets(keyed.cells, request.targets)
    planes = None
    if len(targets) and request.kind != "added":
        planes = dict(_planes(bench, keyed, request, seed))
    n_keys = keyed.cells.count.shape[0]
    place = {
        "fold": fold,
        "trace": request.trace,
        "key": request.key,
        "rank": request.rank,
        "kind": request.kind,
        "draw": request.draw,
        "layer": request.layer,
        "sign": request.sign,
    }
    for target in targets:
        keep = keyed.cells.usable[keyed.key_use, target]
        bin_ = np.full(len(keep), target)
        if planes is None:
            of = bench.centroids(keyed, request.layer)
            moved = bench.add(request.layer, request.sign * of.deviation[keyed.key_use[keep], target], keep)
        else:
            moved = bench.clamp(planes, keep, keyed.key_use, bin_)
        step()
        for prompt, key, natural, sums in _sums(bench.use, keyed.key_use, keep, moved, n_keys):
            rows.add(
                len(prompt),
                **place,
                target=target,
                cell=key,
                prompt=prompt,
                natural=natural[0],
                steered=sums,
                n=natural[1],
                level=keyed.natural_entropy[key, target],
                trace_level=keyed.natural_trace[key, target],
            )


def _sums(
    use: Clean, key_N: np.ndarray, keep_N: np.ndarray, moved_N: np.ndarray, n_keys: int
) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]]:
    """For the kept tokens of each prompt and key: codes, natural sum and count, and the sum after steering."""
    code = use.prompt[keep_N] * n_keys + key_N[keep_N]
    present = np.unique(code)
    count = np.bincount(code)[present].astype(float)
    natural = np.bincount(code, use.next_entropy[keep_N])[present]
    steered = np.bincount(code, moved_N[keep_N])[present]
    if len(present):
        yield present // n_keys, present % n_keys, (natural, count), steered


def _targets(cells: bins.Cells, most: int) -> np.ndarray:
    """Bins that some key can be set to, spread from the lowest to the highest."""
    possible = np.flatnonzero(cells.usable.any(axis=0))
    if len(possible) <= most:
        return possible
    return possible[np.unique(np.linspace(0, len(possible) - 1, most).round().astype(int))]


def _planes(bench: Bench, keyed: Keyed, request: Request, seed: int) -> Iterator[tuple[int, Plane]]:
    for layer in bench.layers:
        kinds = ("centroid", "rotated", "matched", "shuffled")
        rng = np.random.default_rng([seed, kinds.index(request.kind), request.draw, layer])
        if request.kind == "shuffled":
            # The same bins for every layer of a draw: tokens change places within their key.
            order = np.random.default_rng([seed, 3, request.draw])
            shuffled = keyed.bin_fit.copy()
            for key in np.unique(keyed.key_fit):
                at = np.flatnonzero(keyed.key_fit == key)
                shuffled[at] = shuffled[order.permutation(at)]
            of = centroids(bench.fit.states[layer], keyed.key_fit, shuffled, keyed.cells)
        else:
            of = bench.centroids(keyed, layer)
        if request.kind == "rotated":
            yield layer, rotated(of, request.rank, rng)
        elif request.kind == "matched":
            yield layer, matched(of, bench.residuals(keyed, layer), rng)
        else:
            yield layer, (of.basis[:, : request.rank], of.coordinates(request.rank))
