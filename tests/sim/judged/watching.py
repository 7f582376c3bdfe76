"""What must hold whatever happens, looked at before and after every single write of the operator."""

from nightshift.api.rollout import Phase
from nightshift.core.judged.steps import is_bad
from tests.sim.judged.fleet import Deployment, World
from tests.sim.judged.keeper import missing, operate, stable_of


class Watch:
    """Carries out what the operator writes, and looks at each write."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.writes = 0

    def reconcile(self, it: Deployment, killed_after: int | None = None) -> int:
        """One reconcile; its number of writes.

        Args:
            it: Which deployment.
            killed_after: The operator is killed after so many writes.
        """
        done = 0
        for write in operate(self.world, it):
            if killed_after is not None and done >= killed_after:
                self.world.say("the operator is killed, and another one begins")
                break
            serving, asked = self.serving(it), self.asked(it)
            write.act()
            done += 1
            self.writes += 1
            self.world.settle(it)
            self.hold(it, write.what, serving, asked)
        return done

    def serving(self, it: Deployment) -> int:
        """Good ready replicas that stay, as far as the operator has been told."""
        bad = it.now.state is not None and is_bad(it.now.state)
        total = 0
        for made in it.revisions.values():
            trusted = made.verdict in (None, "Undone") and not (bad and made.hash == it.target)
            seen = sum(pod.serves for pod in it.seen.pods if pod.revision == made.hash)
            total += min(made.asked, seen) if trusted else 0
        return total

    @staticmethod
    def asked(it: Deployment) -> int:
        return sum(made.asked for made in it.revisions.values())

    def hold(self, it: Deployment, what: str, serving: int, asked: int) -> None:
        """The promises, after one write."""
        story = "\n".join([*self.world.log[-30:], f"after: {what}"])
        floor = min(serving, it.wanted - missing(it))
        if what.endswith("replicas"):  # other writes take none away; they may say that one is not good
            assert self.serving(it) >= floor, f"{self.serving(it)} good replicas are left of {serving}\n{story}"
        allowed = it.wanted if missing(it) else max(2, it.wanted + 1)
        assert self.asked(it) <= max(allowed, asked), f"{self.asked(it)} replicas of {allowed} are asked for\n{story}"
        if what.startswith("route"):
            self.hold_route(it, story)

    @staticmethod
    def hold_route(it: Deployment, story: str) -> None:
        ready = {pod.revision for pod in it.seen.pods if pod.serves}
        assert set(it.route) <= ready, f"{it.route} while {ready} are ready\n{story}"
        assert sum(it.route.values()) in (0, 100), f"{it.route}\n{story}"
        assert all(weight > 0 for weight in it.route.values()), f"{it.route}\n{story}"
        state = it.now.state
        if state is not None and is_bad(state) and len(ready) > 1:
            assert it.target not in it.route, f"a failed candidate has requests: {it.route}\n{story}"

    def at_the_end(self, it: Deployment) -> None:
        """What a rollout comes to when nothing more goes wrong."""
        story = "\n".join(self.world.log[-40:])
        state = it.now.state
        ready = {
            made.hash: sum(pod.serves for pod in it.pods if pod.revision == made.hash) for made in it.revisions.values()
        }
        if state is None:
            assert ready[it.target] == it.wanted, story
            return
        assert state.phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.PAUSED), f"{state.phase}\n{story}"
        if state.phase is Phase.PAUSED:
            assert state.reason, story
            assert state.says, story
        if state.phase is Phase.PROMOTED:
            expected = {it.target: it.wanted}
        else:
            stable = stable_of(it)
            assert stable is not None or (state.phase is Phase.PAUSED and not state.stable), story
            expected = {stable.hash if stable is not None else it.target: it.wanted}
        if not ready.get(next(iter(expected)), 0) and self.world.free() <= 0:
            return  # what is to serve finds no room, and what serves instead goes on
        held = {name: count for name, count in ready.items() if count}
        if it.wanted:
            assert held == expected, f"{held} serve instead of {expected}\n{story}"
            assert it.route == {next(iter(expected)): 100}, f"{it.route}\n{story}"
