"""The service: connects the sources of events to reconcile, in one event loop.

Each source (the roots, runc's open at the gate, the end of an init, the clock) only names a
container or requests a sync; :mod:`watcher.reconcile.reconciler` does the rest, in this one thread.

The module is long because all sources meet here; each has a few lines.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.host import root_mounts
from handlers.kernel import descriptors
from watcher.answers.opener import Opener
from watcher.answers.server import Answers
from watcher.clustering.server import Clustering
from watcher.containers.present import present
from watcher.events.exits import Exits
from watcher.events.inotify import CREATED, REMOVED
from watcher.events.log_group import LogGroup
from watcher.events.mounts import MountWatch
from watcher.events.roots import RootWatch
from watcher.facts.kinds import Attached, Reloaded
from watcher.locks.lock import Busy
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.service import systemd
from watcher.service.healer import Healer
from watcher.service.locks import Blockade, LockFiles
from watcher.service.port_watch import PortWatch
from watcher.service.rejections import Rejections
from watcher.service.rest import Rest
from watcher.service.retries import Later, Retries
from watcher.service.supervisor import Supervisor
from watcher.service.unhandled import Unhandled

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.settings import Config
    from watcher.facts.kinds import Fact
    from watcher.facts.publisher import Publisher
    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.gate.rootkeeper import RootKeeper
    from watcher.locks.lock import Lock
    from watcher.log.logger import Log
    from watcher.model.container import Process
    from watcher.model.repair import Repair
    from watcher.reconcile.reconciler import Reconciler
    from watcher.service.feeding import Feeding
    from watcher.service.mainthread import MainThread
    from watcher.service.reload import Reload

SYNC_EVERY: Final = 3600.0
"""Seconds between regular syncs, in case an event was missed."""

SETTLE: Final = 0.1
"""Seconds until a look at an attached container that has changed: runc makes many changes at once,
and needs the processor meanwhile."""

AFTER_END: Final = 0.02
"""Seconds from the end of an init until its network is removed: first runc cleans up, and its
caller waits for that. A container that needs the same address or port gets it anyway."""

AT_ONCE: Final = 3
"""How often the lease store is opened anew at once if it is lost again meanwhile."""

SWITCH_INTERVAL: Final = 0.0005
"""Seconds until a computing thread lets another one run: runc may wait for that thread."""


class Service:
    """Runs until SIGTERM or SIGINT; attached containers keep their network after that.

    Args:
        config: the configuration.
        reconciler: decides and changes.
        gate: already open, if it can be.
        roots: already held.
        lock: the lock of the host's service, which this process has.
        reload: reads the configuration anew.
        feeding: tells what happens.
        facts: tells of members that come with another container.
        log: the log.
    """

    def __init__(
        self,
        config: Config,
        reconciler: Reconciler,
        gate: Gatekeeper,
        roots: RootKeeper,
        lock: Lock,
        reload: Reload,
        feeding: Feeding,
        facts: Publisher,
        log: Log,
    ) -> None:
        self._config = config
        self._reconciler = reconciler
        self._gate = gate
        self._roots = roots
        self._lock = lock
        self._reload = reload
        self._feeding = feeding
        self._facts = facts
        facts.subscribe(self._watch_members)
        self._log = log
        self._refused = ""
        """The error that ends the service, if any."""
        self._due: dict[tuple[str, str], asyncio.TimerHandle] = {}
        """The planned look at each changed container."""

    async def run(self, main: MainThread) -> None:
        """Start, sync, notify systemd, and run until a signal to stop.

        Raises:
            Stopped: the signal has arrived already.
            WatcherError: it cannot start.
        """
        _raise_limits()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Unhandled(self._log))
        stop = self._stopping = asyncio.Event()
        self._loop = loop
        self._sync_again = Later(loop, self._sync)
        self._exits = Exits(loop, lambda root, id_: self._look_within(AFTER_END, root, id_))
        self._parts = Supervisor(loop, self._sync, self._log)
        self._watch = RootWatch(
            look=self._changed, anew=self._roots.path_may_lead_elsewhere, overflow=self._sync,
            failed=lambda error: self._parts.ended("inotify", error), log=self._log,
        )  # fmt: skip
        self._ports = PortWatch(loop, self._reconciler.taken, self._gate, self._log)
        self._rest = Rest(
            loop, self._reconciler, self._gate, self._sync, self._log, rested=self._ports.begin
        )
        self._retries = Retries(loop, self._reconciler, self._look_at, self._sync, self._log)
        self._blockade = Blockade(loop, self._reconciler, self._free_again, self._log)
        self._lock_files = LockFiles(
            self._lock, self._reconciler.lock, self._config.run_dir, self._watch,
            lost=self._give_way, checked=self._check_files, log=self._log,
        )  # fmt: skip
        self._mounts: MountWatch | None = None
        self._clustering = Clustering(
            loop, self._config, self._reconciler, self._facts, self._granted,
            self._sync_again.plan, self._log,
        )  # fmt: skip
        self._reconciler.claim_by(self._clustering)
        self._healer = Healer(
            loop, self._reconciler, self._sync, self._log, moved=self._clustering.look,
            failed=lambda error: self._parts.ended("drift", error),
        )  # fmt: skip
        rejections = Rejections(self._reconciler.present.sandbox_at, self._facts.publish)
        self._facts.subscribe(rejections.note)
        self._logged = LogGroup(loop, self._log, rejections.heard)
        self._gate.serve(
            loop, self._reconciler, watch=self._exits.watch, lost=self._sync,
            ended=lambda: loop.call_soon(self._parts.check),
        )  # fmt: skip
        opener = Opener(loop, self._reconciler, self._facts, rejections.asked)
        self._answers = Answers(loop, self._reconciler, opener, self._gate.answer_first, self._log)
        try:
            self._feeding.start(
                loop,
                self._reconciler,
                self._gate,
                self._roots,
                self._clustering.contact,
                changed=self._clustering.look_for_others,
            )
            self._rest.begin()
            self._start()
            self._reconciler.serve(self._blockade.begin)
            # After SIGCONT, any number of events may have been missed.
            main.attend(
                loop, stop=stop.set, resume=self._resume, well=self._well,
                reload=lambda: self._reload.run(self._config, self._configure),
            )  # fmt: skip
            self._rest.ready()
            self._tell_ready()  # last: the manager may stop the service at once
            await stop.wait()
            self._log.info("stopping")
            systemd.notify("STOPPING=1")
            if self._refused:
                raise WatcherError(self._refused, "stop one of the two")
        finally:
            self._stop()

    def _start(self) -> None:
        if self._config.gate.mode == "off":
            for root in present(self._config.roots):  # a killed service may have held runc there
                with suppress(OSError):
                    root_mounts.take_back(root.path)
        self._listen()
        self._watch.start(self._loop)
        self._roots.serve(self._loop, self._watch, changed=self._sync)
        # A sync before this start may have unmounted them as those of a dead service.
        self._roots.retry()
        self._watch_directories()
        self._lock_files.check()  # they may have been removed before the watch began
        self._watch_mounts()
        self._supervise()
        self._sync_once()
        self._answers.begin()
        self._gate.resolv_confs.look_at_all()
        self._ports.look()
        self._healer.prepare(self._config.networks)
        self._logged.listen(self._config.firewall.log_group)
        self._every(SYNC_EVERY, self._hourly)

    def _tell_ready(self) -> None:
        roots = [root.path for root in self._config.roots]
        self._log.info("ready", roots=roots, gate=self._gate.open, **self._roots.state())
        systemd.notify("READY=1")

    def _stop(self) -> None:
        self._parts.clear()
        self._rest.stop()
        self._ports.stop()
        if self._mounts is not None:
            self._mounts.close()
        self._gate.stop()
        self._roots.close()
        self._watch.stop()
        self._healer.stop()
        self._logged.close()
        self._exits.close()
        self._answers.close()
        self._clustering.close()
        self._feeding.stop()

    def _supervise(self) -> None:
        """Register every thread and event source with the supervisor."""
        self._parts.add("gate", lambda: self._gate.alive, self._renew_gate)
        self._parts.add("inotify", lambda: self._watch.alive, self._renew_watch)
        self._parts.add(
            "mount table",
            lambda: self._mounts is not None and self._mounts.alive,
            self._watch_mounts,
        )
        self._parts.add("drift", lambda: self._healer.listens, self._listen)
        reaper = self._reconciler.reaper
        self._parts.add("reaper", lambda: reaper.alive, reaper.renew)

    def _well(self) -> bool:
        """Start every ended part again; returns whether the watchdog may be fed."""
        self._lock_files.check()
        return self._parts.check()

    def _resume(self) -> None:
        self._sync()
        self._ports.look()

    def _hourly(self) -> None:
        self._roots.retry()
        self._sync()

    def _renew_gate(self) -> None:
        self._gate.renew()
        self._roots.hold_again()

    def _renew_watch(self) -> None:
        self._watch.start(self._loop)
        try:
            self._roots.watch_again()
            self._watch_directories()
        except OSError:
            self._watch.stop()  # a partial watch is useless
            raise

    def _configure(self, config: Config) -> None:
        """Use `config` from now on, and look at every container again."""
        anew = config.networks != self._config.networks
        added = config.networks.keys() - self._config.networks.keys()
        self._config = config
        self._feeding.configure(config.events)
        if anew:
            try:
                self._listen()
            except OSError as error:
                self._parts.ended("drift", error)
        self._healer.prepare(added)
        self._gate.resolv_confs.write()
        self._reconciler.blocked()  # the lock may be free by now, and who reloads is told the end
        self._sync()
        self._gate.resolv_confs.look_at_all()
        self._clustering.configure(config)
        self._facts.publish(Reloaded())

    def _check_files(self) -> None:
        """Make other files of `run_dir` anew if they are gone."""
        self._feeding.check()
        self._answers.check()
        self._clustering.check()
        self._gate.resolv_confs.check()

    def _listen(self) -> None:
        self._healer.start(self._config.networks.values())

    def _watch_mounts(self) -> None:
        if self._mounts is not None:
            self._mounts.close()
        self._mounts = MountWatch(
            self._loop, self._roots.paths,
            anew=self._roots.path_may_lead_elsewhere, changed=self._healer.pins_may_be_gone,
            failed=lambda error: self._parts.ended("mount table", error),
        )  # fmt: skip

    def _watch_directories(self) -> None:
        self._watch.watch_names(self._config.netns_dir, self._healer.pin_gone)
        self._watch_store()
        self._lock_files.watch()

    def _changed(self, root: str, id_: str) -> None:
        """Look at a changed container: at once if it is unknown, else a moment later."""
        known = self._exits.watches(root, id_) or (root, id_) in self._due
        self._look_within(SETTLE if known else 0.0, root, id_)

    def _look_within(self, seconds: float, root: str, id_: str) -> None:
        """Look at a container once, in `seconds` at the latest."""
        key, when = (root, id_), self._loop.time() + seconds
        if due := self._due.get(key):
            if due.when() <= when:
                return
            due.cancel()
        self._due[key] = self._loop.call_at(when, self._look, root, id_)

    def _look(self, root: str, id_: str) -> None:
        self._due.pop((root, id_), None)
        if not self._look_at(root, id_):
            self._retries.soon()  # a failed container may wait for what this one had
        self._retries.plan()
        self._rest.worked()

    def _look_at(self, root: str, id_: str) -> bool:
        """Look at a container now; returns whether it runs, so that its end is watched."""
        self._gate.answer_first()
        init = self._reconciler.look(root, id_)
        if init is not None:
            self._watch_end(root, id_, init)
        return init is not None

    def _watch_end(self, root: str, id_: str, init: Process) -> None:
        """Watch for the end of an init."""
        if not self._exits.watches(root, id_):
            self._gate.started(root, id_, init)
        self._exits.watch(root, id_, init)

    def _watch_members(self, fact: Fact) -> None:
        """Watch for the ends of all members of a new sandbox: it may be a founder's, too."""
        if isinstance(fact, Attached):
            for member in fact.members:
                if not self._exits.watches(member.root, member.id):
                    self._exits.watch(member.root, member.id, member.init)

    def _sync_once(self) -> list[Repair]:
        """Sync, and return the differences; `WatcherError` or `OSError` if that fails."""
        repairs = self._reconciler.sync()
        self._log.debug("synced", repairs=len(repairs))
        for root, id_, init in self._reconciler.present.living():
            self._watch_end(root, id_, init)
        self._retries.plan()
        self._rest.worked()
        self._healer.retry()
        self._clustering.look()
        return repairs

    def _sync(self) -> list[Repair]:
        """Call `_sync_once`; log an error, and try again after a while."""
        try:
            repairs = self._sync_once()
        except Busy:
            return []  # the sync follows when the lock is free
        except (WatcherError, OSError) as error:
            self._log.error("sync failed", reason=message_with_remedy(error))
            self._sync_again.plan()
            return []
        self._sync_again.done()
        return repairs

    def _free_again(self) -> None:
        """Do what had to wait for the lock."""
        self._gate.again()
        self._sync()

    def _granted(self) -> None:
        """Go on with containers that waited for an address."""
        self._gate.again()
        self._retries.soon()
        self._retries.plan()

    def _give_way(self, why: str) -> None:
        """Stop, because another service serves the host."""
        self._refused = why
        self._stopping.set()

    def _watch_store(self) -> None:
        self._watch.watch_names(
            self._config.state_dir,
            lambda _: self._store_changed(),
            CREATED | REMOVED,
        )

    def _store_changed(self) -> None:
        """After a change in its directory, check that the store's file is still the same."""
        for _ in range(AT_ONCE):
            if self._reconciler.has_store():
                return
            self._sync()
            try:
                # The directory may be another one too. And what the sync itself did there is no
                # news: one that fails would be made again at once, for ever. So look again.
                self._watch_store()
            except OSError as error:
                self._log.error("lease store cannot be watched", reason=message_with_remedy(error))
            if self._sync_again.planned:  # it has failed
                return
        if not self._reconciler.has_store():
            self._sync_again.plan()

    def _every(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call` every `seconds` from now on."""

        def again() -> None:
            self._loop.call_later(seconds, again)
            call()

        self._loop.call_later(seconds, again)


def _raise_limits() -> None:
    """Allow as many descriptors as possible: each container and each held runc takes one."""
    descriptors.raise_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
