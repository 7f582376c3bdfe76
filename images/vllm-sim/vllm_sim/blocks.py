"""KV blocks of running sequences, and the prefix cache over blocks no longer in use. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice


def block_hashes(tokens: Sequence[int], block: int, parent: str = "") -> list[str]:
    """A hash for each full block of tokens, chained from `parent`: equal hashes mean equal tokens so far."""
    hashes: list[str] = []
    for start in range(0, len(tokens) - block + 1, block):
        content = ",".join(map(str, tokens[start : start + block]))
        parent = hashlib.blake2b(f"{parent}|{content}".encode(), digest_size=16).hexdigest()
        hashes.append(parent)
    return hashes


class BlockPool:
    """The KV cache: blocks private to a sequence, blocks shared by their content, and free ones.

    A shared block that nobody holds stays cached until its space is needed (least recently used goes first).
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._private = 0
        self._held = 0
        self._shared: OrderedDict[str, int] = OrderedDict()

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self._private + self._held

    @property
    def usage(self) -> float:
        """Share of the cache held by sequences, 0 to 1: vLLM's ``kv_cache_usage_perc``."""
        return self.used / self.blocks if self.blocks else 0.0

    def hit(self, hashes: Sequence[str]) -> list[str]:
        """The longest run of cached blocks from the start."""
        found: list[str] = []
        for digest in hashes:
            if digest not in self._shared:
                break
            found.append(digest)
        return found

    def hold(self, hashes: Sequence[str]) -> None:
        """Take shared blocks that are cached, so that they are not evicted."""
        for digest in hashes:
            self._take(digest)

    def reserve(self, count: int) -> bool:
        """Take `count` private blocks, evicting cached ones; False and nothing taken when they do not fit."""
        if self.used + count > self.blocks:
            return False
        excess = self._private + len(self._shared) + count - self.blocks
        if excess > 0:
            idle = (digest for digest, holders in self._shared.items() if not holders)
            for digest in list(islice(idle, excess)):
                del self._shared[digest]
        self._private += count
        return True

    def share(self, digest: str) -> None:
        """Turn one private block into a shared one; a block of equal content takes its place and frees it."""
        self._private -= 1
        self._take(digest)

    def release(self, hashes: Sequence[str], private: int) -> None:
        """Give back what a sequence held; shared blocks stay cached."""
        self._private -= private
        for digest in reversed(hashes):
            self._shared[digest] -= 1
            self._held -= not self._shared[digest]

    def _take(self, digest: str) -> None:
        holders = self._shared.get(digest, 0)
        self._held += not holders
        self._shared[digest] = holders + 1
        self._shared.move_to_end(digest)
