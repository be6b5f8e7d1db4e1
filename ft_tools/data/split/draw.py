"""Divide examples into training and validation so that nothing is on both sides.

Examples that ask the same first, or whose prompts the search for near-duplicates found near one
another, stay together. Each stratum (examples with one `split_key`) gives its share, by largest
remainder, and another what one lacks, so the total is exact where groups allow. The same seed and
data give the same split.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from ft_tools.data.read.ledger import Ledger
from ft_tools.data.request import AuditRequest


def will_split(request: AuditRequest) -> bool:
    """Return whether an audit divides the examples itself."""
    is_wanted = request.output_dir is not None and request.validation_fraction > 0
    return is_wanted and request.validation_path is None


def choose_validation(ledger: Ledger, kept: Sequence[int], fraction: float, seed: int) -> set[int]:
    """Return which of the kept examples go to validation."""
    wanted = num_wanted(len(kept), fraction)
    if not wanted:
        return set()
    groups = groups_of(ledger, kept)
    strata: dict[int, list[list[int]]] = defaultdict(list)
    for group in groups:
        strata[ledger.split_key[group[0]]].append(group)
    shares = _shares({name: sum(map(len, g)) for name, g in strata.items()}, wanted)
    chosen: set[int] = set()
    for name in sorted(strata):
        room = shares[name]
        for group in sorted(strata[name], key=lambda g: draw(seed, ledger.lines[g[0]])):
            if len(group) <= room:
                chosen.update(group)
                room -= len(group)
    # What a stratum has no group for that is small enough, another one gives.
    for group in sorted(groups, key=lambda g: draw(seed, ledger.lines[g[0]])):
        if len(group) <= wanted - len(chosen) and group[0] not in chosen:
            chosen.update(group)
    return chosen


def num_wanted(num_kept: int, fraction: float) -> int:
    """Return how many examples the validation part should have."""
    if fraction <= 0 or num_kept < 2:
        return 0
    return min(max(1, round(fraction * num_kept)), num_kept - 1)


def groups_of(ledger: Ledger, kept: Sequence[int]) -> list[list[int]]:
    """Put examples together that ask the same first, are the same in full, or are linked."""
    first_with: dict[int, int] = {}
    for index in kept:
        key = ledger.first_prompt[index] or ledger.whole[index]
        ledger.link(index, first_with.setdefault(key, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in kept:
        groups[ledger.linked(index)].append(index)
    return list(groups.values())


def _shares(sizes: dict[int, int], wanted: int) -> dict[int, int]:
    """Divide `wanted` over the strata in proportion, by largest remainder."""
    total = sum(sizes.values())
    exact = {name: wanted * size / total for name, size in sizes.items()}
    shares = {name: int(value) for name, value in exact.items()}
    left = wanted - sum(shares.values())
    by_rest = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_rest[:left]:
        shares[name] += 1
    return shares


def draw(seed: int, line: int) -> bytes:
    """Return what rows are drawn in the order of."""
    return hashlib.blake2b(f"{seed}:{line}".encode(), digest_size=8).digest()
