"""Places that are shared fairly: weighted fair queueing in virtual time.

The algorithm is start-time fair queueing (Goyal, Vin and Cheng 1996) with many servers. Every key
has a virtual time, the seconds it used over its weight; of the keys that wait, the least goes
next. How long somebody will use a place is not known when it is given, so a guess is charged (the
mean of what the key used before), or the seconds so far once they are more, and what was used in
truth when the place is given back.

Who was not waiting has nothing to claim: a key that comes, or comes again, starts at the virtual
time of those who wait. One event loop, no threads; what the places are is not known here.
"""

import asyncio
import time
from bisect import bisect_left, insort
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

FIRST_GUESS_S = 1.0
_NEWEST = 0.2
"""How much the newest use counts in the mean."""


@dataclass(frozen=True)
class Tenant:
    """Somebody who asks for a place."""

    key_id: str
    weight: float = 1.0
    priority: int = 0
    """Inside the key: the higher goes first."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"key {self.key_id}: weight {self.weight}; expected more than 0")


@dataclass(eq=False)
class _Hold:
    """A place in use."""

    start_s: float
    guess_s: float


@dataclass(order=True)
class _Waiter:
    """One who waits; the least goes first."""

    rank: tuple[int, int]
    turn: "asyncio.Future[_Hold]" = field(compare=False)


@dataclass(eq=False)
class _Account:
    """A key's virtual time: what it paid, and what it owes for the places it holds."""

    weight: float
    guess_s: float
    paid: float = 0.0
    holds: list[_Hold] = field(default_factory=list)
    waiters: list[_Waiter] = field(default_factory=list)

    def virtual_s(self, now: float) -> float:
        owed = sum(max(hold.guess_s, now - hold.start_s) for hold in self.holds)
        return self.paid + owed / self.weight

    def lift(self, virtual_s: float, now: float) -> None:
        """Forget what was not used."""
        self.paid += max(0.0, virtual_s - self.virtual_s(now))

    def begin(self, now: float) -> None:
        """Give a place to the first who waits."""
        hold = _Hold(now, self.guess_s)
        self.holds.append(hold)
        self.waiters.pop(0).turn.set_result(hold)

    def end(self, hold: _Hold, used_s: float) -> None:
        """Pay for a place that is given back."""
        self.holds.remove(hold)
        self.paid += used_s / self.weight

    def drop(self, waiter: _Waiter) -> None:
        """Take somebody out of the line, if still there."""
        place = bisect_left(self.waiters, waiter)
        if self.waiters[place : place + 1] == [waiter]:
            del self.waiters[place]

    def waits(self) -> bool:
        """Whether anybody waits; who was cancelled does not."""
        while self.waiters and self.waiters[0].turn.done():
            self.waiters.pop(0)
        return bool(self.waiters)


class FairPlaces:
    """A number of places, given to keys by weight."""

    def __init__(self, places: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        if places < 0:
            raise ValueError(f"{places} places; expected 0 or more")
        self._places = places
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._virtual_s = 0.0
        self._guess_s = FIRST_GUESS_S
        self._num_asked = 0
        self._num_held = 0

    @property
    def num_held(self) -> int:
        """Places in use."""
        return self._num_held

    @property
    def num_waiting(self) -> int:
        return sum(len(account.waiters) for account in self._accounts.values())

    @asynccontextmanager
    async def place(self, tenant: Tenant) -> AsyncIterator[None]:
        """A place when it is this tenant's turn; the seconds in it are charged to the key."""
        account = self._account(tenant)
        hold = await self._turn(account, tenant)
        try:
            yield
        finally:
            used_s = self._clock() - hold.start_s
            account.guess_s = _mean(account.guess_s, used_s)
            self._guess_s = _mean(self._guess_s, used_s)
            self._leave(account, hold, used_s)

    async def _turn(self, account: _Account, tenant: Tenant) -> _Hold:
        """Wait. Who is cancelled leaves no trace, even with a place just given."""
        turn: asyncio.Future[_Hold] = asyncio.get_running_loop().create_future()
        waiter = _Waiter((-tenant.priority, self._num_asked), turn)
        self._num_asked += 1
        insort(account.waiters, waiter)
        self._give()
        try:
            return await turn
        except asyncio.CancelledError:
            account.drop(waiter)
            if not turn.cancelled():
                self._leave(account, turn.result(), used_s=0.0)
            self._tidy()
            raise

    def _account(self, tenant: Tenant) -> _Account:
        """The key's account; where nobody of it waits, without old claims."""
        now = self._clock()
        fresh = _Account(tenant.weight, self._guess_s)
        account = self._accounts.setdefault(tenant.key_id, fresh)
        account.weight = tenant.weight
        if not account.waits():
            account.lift(self._advance(now), now)
        return account

    def _advance(self, now: float) -> float:
        """The virtual time: the least of those who wait; where nobody waits, all are even."""
        accounts = self._accounts.values()
        waiting = [account.virtual_s(now) for account in accounts if account.waits()]
        even = max((account.virtual_s(now) for account in accounts), default=0.0)
        self._virtual_s = max(self._virtual_s, min(waiting, default=even))
        return self._virtual_s

    def _give(self) -> None:
        """Give all free places, each to the key that is behind the others."""
        if self._num_held >= self._places:
            return
        now = self._clock()
        behind = {a: a.virtual_s(now) for a in self._accounts.values() if a.waits()}
        while behind and self._num_held < self._places:
            account = min(behind, key=behind.__getitem__)
            self._virtual_s = max(self._virtual_s, behind[account])
            behind[account] += account.guess_s / account.weight
            account.begin(now)
            self._num_held += 1
            if not account.waits():
                del behind[account]

    def _leave(self, account: _Account, hold: _Hold, used_s: float) -> None:
        account.end(hold, used_s)
        self._num_held -= 1
        self._give()
        self._tidy()

    def _tidy(self) -> None:
        """Forget keys that neither wait nor hold nor are ahead: they would start here anyway."""
        self._accounts = {
            key_id: account
            for key_id, account in self._accounts.items()
            if account.waits() or account.holds or account.paid > self._virtual_s
        }


def _mean(mean_s: float, used_s: float) -> float:
    return mean_s + _NEWEST * (used_s - mean_s)
