"""The mutants: which text of which file becomes which, and the tests that have to fail then."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.coordinator.core.verdicts import VERDICTS

POOL = (
    "tests/unit/coordinator/core/test_pool_batching.py",
    "tests/unit/coordinator/core/test_pool_leasing.py",
    "tests/unit/coordinator/core/test_pool_runs.py",
)
STAY = ("tests/unit/coordinator/core/test_pool_stay.py",)
HELPERS = ("tests/unit/coordinator/core/test_pool_helpers.py",)
BLAME = ("tests/unit/coordinator/core/test_pool_blame.py",)
SIZES = ("tests/unit/coordinator/core/test_pool_batch_sizes.py",)
SIMULATION = ("tests/unit/coordinator/core/test_simulation.py",)
ENSEMBLE = ("tests/unit/exporter/test_power_cut.py::test_an_ensemble_is_of_the_members_that_stand",)
LEDGER = ("tests/unit/exporter/ledger/test_ledger_simulation.py",)
POWER = ("tests/unit/exporter/test_power_cut.py::test_nothing_acknowledged_is_lost",)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect. `before` stands once in `file`."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


FIRST_THAT_APPLIES = "if rule.who == who and rule.applies(incident))"

SKIPPED_VERDICTS = tuple(
    Mutant(
        f"no verdict on a {rule.who}: {rule.case}",
        "coordinator/core/verdicts.py",
        FIRST_THAT_APPLIES,
        f"{FIRST_THAT_APPLIES[:-1]} and (rule.who, rule.case) != {(rule.who, rule.case)!r})",
        (*BLAME, *POOL),
    )
    for rule in VERDICTS
    if rule.case != "anything else"
)
"""For each row of the table of verdicts but the last ones: the core walks past it."""

MUTANTS = (
    *SKIPPED_VERDICTS,
    Mutant(
        "a row that might be innocent is quarantined",
        "coordinator/core/verdicts.py",
        "lambda _: True, Verdict.PARK",
        "lambda _: True, Verdict.QUARANTINE",
        (*BLAME, *POOL),
    ),
    Mutant(
        "a loss that nothing explains is forgotten at the next result",
        "coordinator/core/verdicts.py",
        "lambda _: True, Verdict.UNEXPLAINED_LOSS",
        "lambda _: True, Verdict.FAILURE",
        (*BLAME, *POOL),
    ),
    Mutant(
        "a result of an ended lease counts",
        "coordinator/core/batching.py",
        "if worker is None or worker.epoch != epoch or batch not in worker.batches:",
        "if worker is None or batch not in worker.batches:",
        POOL,
    ),
    Mutant(
        "a worker of an earlier run gets batches",
        "coordinator/core/batching.py",
        "one.run == run.name and one.stage",
        "one.stage",
        STAY,
    ),
    Mutant(
        "a worker stays though another pass of its run wants the device",
        "coordinator/core/leasing.py",
        "(wanted or not _stays(fleet, active))",
        "not _stays(fleet, active)",
        STAY,
    ),
    Mutant(
        "a worker stays for a run that loads another model",
        "coordinator/core/leasing.py",
        "any(one.plan.loads == worker.loads and may_serve",
        "any(may_serve",
        STAY,
    ),
    Mutant(
        "a worker is handed over with another model",
        "coordinator/core/leasing.py",
        "if worker.loads and run.passes[n].plan.loads == worker.loads)",
        "if worker.loads)",
        STAY,
    ),
    Mutant(
        "a worker that stays keeps its run from being closed",
        "coordinator/core/leasing.py",
        "not (fleet.now - worker.killed_at > patience if worker.killed else _stays(fleet, worker))",
        "not worker.killed or fleet.now - worker.killed_at <= patience",
        STAY,
    ),
    Mutant(
        "a batch that was queued is blamed, not the one that was computed",
        "coordinator/core/blame.py",
        "computed = held[0] if held and",
        "computed = held[-1] if held and",
        POOL,
    ),
    Mutant(
        "a batch that was blamed gets another size",
        "coordinator/core/batching.py",
        "    if count >= len(batch.cuts) or batch.phase(one.results) not in UNSUSPECTED:\n",
        "    if count >= len(batch.cuts):\n",
        SIZES,
    ),
    Mutant(
        "what is left of a batch lacks a cut",
        "coordinator/core/batching.py",
        "mine, others = batch.cuts[:count], batch.cuts[count:]",
        "mine, others = batch.cuts[:count], batch.cuts[count:][-1:]",
        SIMULATION,
    ),
    Mutant(
        "a batch is as large as one measurement allows",
        "coordinator/core/batching.py",
        "GROWTH * worker.tokens)",
        "1e9 * worker.tokens)",
        SIMULATION,
    ),
    Mutant(
        "a batch lasts twice as long as it should",
        "coordinator/core/batching.py",
        "fleet.config.batch_seconds * worker.tokens",
        "2 * fleet.config.batch_seconds * worker.tokens",
        SIMULATION,
    ),
    Mutant(
        "a batch has more rows than its result may have",
        "coordinator/core/batching.py",
        "(tokens > wanted or cut.stop - cuts[0].start > worker.most_rows)",
        "tokens > wanted",
        SIMULATION,
    ),
    Mutant(
        "a sign of life makes a worker faster",
        "coordinator/core/batching.py",
        "    seconds = fleet.now - worker.began\n",
        "    seconds = fleet.now - worker.moved\n",
        SIZES,
    ),
    Mutant(
        "a fast worker runs out of batches while a segment is cut",
        "coordinator/core/segments.py",
        "if batches <= 0 and tokens <= 0:",
        "if batches <= 0:",
        SIZES,
    ),
    Mutant(
        "batches of a dead worker are forgotten",
        "coordinator/core/blame.py",
        "        if batch_id != computed:\n            _put_back(fleet, batch_id)\n",
        "        pass\n",
        SIMULATION,
    ),
    Mutant(
        "a row that waits for others does not",
        "coordinator/core/state.py",
        "return BatchPhase.LAST_TRY if computed_since else BatchPhase.PARKED",
        "return BatchPhase.LAST_TRY",
        BLAME,
    ),
    Mutant(
        "what was tokenized beside a batch is never to blame",
        "coordinator/core/blame.py",
        "    batch.sent_with += tuple(beside)\n",
        "",
        BLAME,
    ),
    Mutant(
        "halving a batch loses a row",
        "coordinator/core/blame.py",
        "for start, stop in ((middle, batch.stop), (batch.start, middle)):",
        "for start, stop in ((middle + 1, batch.stop), (batch.start, middle)):",
        SIMULATION,
    ),
    Mutant(
        "a batch that is halved is tried again as a whole too",
        "coordinator/core/blame.py",
        "    batch = fleet.batches.pop(batch_id)\n",
        "    batch = fleet.batches[batch_id]\n    one.pending.appendleft(batch_id)\n",
        SIMULATION,
    ),
    Mutant(
        "a committed segment is computed again",
        "coordinator/core/segments.py",
        "        if event.segment not in one.committed:\n            one.uncut.append(event.segment)\n",
        "        one.uncut.append(event.segment)\n",
        SIMULATION,
    ),
    Mutant(
        "a run is done before its source is read",
        "coordinator/core/segments.py",
        "return run.intake_done and run.scrubbed and all(",
        "return run.scrubbed and all(",
        SIMULATION,
    ),
    Mutant(
        "a run is done before what stands is known to be whole",
        "coordinator/core/segments.py",
        "return run.intake_done and run.scrubbed and all(",
        "return run.intake_done and all(",
        POOL,
    ),
    Mutant(
        "a damaged segment is not computed again",
        "coordinator/core/segments.py",
        "        if event.segment in run.segments:\n            one.uncut.append(event.segment)\n",
        "",
        POOL,
    ),
    Mutant(
        "a result of an ended lease is taken for one of the next",
        "coordinator/core/batching.py",
        "if worker is None or worker.epoch != epoch or batch not in worker.batches:",
        "if worker is None or batch not in worker.batches:",
        SIMULATION,
    ),
    Mutant(
        "a segment is filled while a worker has a batch of it",
        "coordinator/core/fallback.py",
        "if not opened.cutting and not opened.outstanding]",
        "if not opened.cutting]",
        SIMULATION,
    ),
    Mutant(
        "a segment is filled twice",
        "coordinator/core/fallback.py",
        "        one.open.pop(segment, None)\n",
        "",
        SIMULATION,
    ),
    Mutant(
        "a segment of a given-up pass is forgotten after its last result",
        "coordinator/core/fallback.py",
        "    for segment in [*at_rest, *one.uncut]:\n",
        "    for segment in one.uncut:\n",
        SIMULATION,
    ),
    Mutant(
        "after a lost exporter, batches under way still count",
        "coordinator/core/segments.py",
        "        del fleet.batches[batch_id]\n    one.pending.clear()\n",
        "        fleet.batches[batch_id]\n    one.pending.clear()\n",
        SIMULATION,
    ),
    Mutant(
        "a worker is given one batch too many",
        "coordinator/core/batching.py",
        "        for level in range(fleet.config.credit):\n",
        "        for level in range(fleet.config.credit + 1):\n",
        SIMULATION,
    ),
    Mutant(
        "results without bound wait for the disk",
        "coordinator/core/segments.py",
        "    return len(one.open) < 2 or held + run.segments",
        "    return True or held + run.segments",
        SIMULATION,
    ),
    Mutant(
        "a device that was given up is leased",
        "coordinator/core/leasing.py",
        "        if wanted and slot.health.may_start(fleet.now) and is_worth_a_start",
        "        if wanted and fleet.now >= slot.health.not_before and is_worth_a_start",
        SIMULATION,
    ),
    Mutant(
        "a helper loads a model",
        "coordinator/core/serving.py",
        "    if slot.device.helper and not plan.light:\n        return False\n",
        "",
        SIMULATION,
    ),
    Mutant(
        "a helper waits for a device that was given up",
        "coordinator/core/serving.py",
        "    if all(one.health.given_up(pass_index) for one in others):\n        return True\n",
        "",
        (*HELPERS, *SIMULATION),
    ),
    Mutant(
        "a helper starts for a segment that another worker will have",
        "coordinator/core/serving.py",
        "> helping + 1",
        "> helping",
        HELPERS,
    ),
    Mutant(
        "the next model is hydrated beside the one that works",
        "coordinator/core/leasing.py",
        "    if active.stage is WorkerStage.STAGED and not active.killed:\n",
        "    if standby is not None and standby.stage is WorkerStage.STAGED:\n        active = standby\n"
        "    if active.stage is WorkerStage.STAGED and not active.killed:\n",
        SIMULATION,
    ),
    Mutant(
        "a worker that hangs is waited for",
        "coordinator/core/workers.py",
        "        if now - worker.moved > allowed:\n",
        "        if now - worker.moved > 1e9:\n",
        POOL,
    ),
    Mutant(
        "a segment is acknowledged before it is written",
        "exporter/commit_path.py",
        "        self.committer.write(action.part, action.segment, builder)\n        self._handle(",
        "        from ..protocol.wire.export import Committed\n\n"
        "        self._reports.put(Committed(action.part, action.segment, builder.rows, 0, 0.0))\n"
        "        self.committer.write(action.part, action.segment, builder)\n        self._handle(",
        POWER,
    ),
    Mutant(
        "the ledger acknowledges a segment before it is written",
        "exporter/ledger/ledger.py",
        "                return [Write(part, segment)]\n",
        "                return [Acknowledge(part, segment), Write(part, segment)]\n",
        LEDGER,
    ),
    Mutant(
        "what is being written is taken again",
        "exporter/ledger/ledger.py",
        "                self._places[part][segment] = Place.WRITING\n                return [Write",
        "                return [Write",
        LEDGER,
    ),
    Mutant(
        "what stood is not known to stand",
        "exporter/ledger/ledger.py",
        "            self._places[part] = dict.fromkeys(kept, Place.EARLIER)\n",
        "",
        LEDGER,
    ),
    Mutant(
        "what stood is taken for whole before it is looked at",
        "exporter/ledger/ledger.py",
        "dict.fromkeys(kept, Place.EARLIER)",
        "dict.fromkeys(kept, Place.STANDING)",
        LEDGER,
    ),
    Mutant(
        "what was looked at is not derived and published",
        "exporter/ledger/ledger.py",
        "        return [*actions, *self._go_on(segment)] if whole else actions\n",
        "        return actions\n",
        LEDGER,
    ),
    Mutant(
        "a segment is published again when its chunks are looked at",
        "exporter/ledger/ledger.py",
        "        return [*actions, *self._go_on(segment)] if whole else actions\n",
        "        return [*actions, *self._go_on(segment)]\n",
        LEDGER,
    ),
    Mutant(
        "a segment is published before all its parts stand",
        "exporter/ledger/ledger.py",
        "if self._publishes and all(places",
        "if self._publishes and any(places",
        LEDGER,
    ),
    Mutant(
        "an ensemble is derived of some of its members",
        "exporter/ledger/ledger.py",
        "            stand = all(",
        "            stand = any(",
        LEDGER,
    ),
    Mutant(
        "a segment is acknowledged before its ensemble stands",
        "exporter/ledger/ledger.py",
        "        return [*self._go_on(segment), *acknowledged]\n",
        "        return [*acknowledged, *self._go_on(segment)]\n",
        LEDGER,
    ),
    Mutant(
        "an ensemble is derived without chunks",
        "exporter/ledger/ledger.py",
        "        if not self._chunks_read and segment not in self._chunks:\n            return []\n",
        "",
        LEDGER,
    ),
    Mutant(
        "what waits for its chunks waits for good",
        "exporter/ledger/ledger.py",
        "        waiting = set[int]().union(*self._places) - self._chunks\n",
        "        waiting = set[int]()\n",
        LEDGER,
    ),
    Mutant(
        "an ensemble outlives its damaged member",
        "exporter/ledger/ledger.py",
        "not bad.isdisjoint((part, *members))",
        "part in bad",
        LEDGER,
    ),
    Mutant(
        "damage is told before the file is removed",
        "exporter/ledger/ledger.py",
        "(RemoveDamaged(segment, damage), TellDamage(segment, damage))",
        "(TellDamage(segment, damage), RemoveDamaged(segment, damage))",
        LEDGER,
    ),
    Mutant(
        "results are taken before anybody was told of the damage",
        "exporter/ledger/ledger.py",
        "                self._places[damage.part][segment] = Place.REMOVED\n",
        "                del self._places[damage.part][segment]\n",
        LEDGER,
    ),
    Mutant(
        "after a failure the ledger goes on",
        "exporter/ledger/ledger.py",
        "            self.failed = True\n            return []\n",
        "            self.failed = isinstance(event, Failed)\n",
        LEDGER,
    ),
    Mutant(
        "a file gets its name before it is synced",
        "protocol/run_directory/atomic_files.py",
        '        with partial.open("rb") as handle:\n            os.fsync(handle.fileno())\n'
        "        _give_name(partial, path)\n",
        '        _give_name(partial, path)\n        with path.open("rb") as handle:\n            os.fsync(handle.fileno())\n',
        POWER,
    ),
    Mutant(
        "a file is not synced",
        "protocol/run_directory/atomic_files.py",
        "            os.fsync(handle.fileno())\n        _give_name(partial, path)\n",
        "            pass\n        _give_name(partial, path)\n",
        POWER,
    ),
    Mutant(
        "its folder is not synced",
        "protocol/run_directory/atomic_files.py",
        "        raise\n    sync_folder(path.parent)\n",
        "        raise\n",
        POWER,
    ),
    Mutant(
        "a new folder is not synced",
        "protocol/run_directory/atomic_files.py",
        "        one.mkdir(exist_ok=True)\n        sync_folder(one.parent)\n",
        "        one.mkdir(exist_ok=True)\n",
        POWER,
    ),
    Mutant(
        "a file is written under its final name",
        "protocol/run_directory/atomic_files.py",
        'return path.with_name(f".{path.name}.tmp")',
        "return path",
        POWER,
    ),
    Mutant(
        "an ensemble outlives its member",
        "exporter/ledger/ledger.py",
        "            kept = segments.intersection(*members)\n",
        "            kept = segments\n",
        (*ENSEMBLE, *LEDGER),
    ),
    Mutant(
        "the removal of an ensemble is not synced",
        "exporter/segments/committer.py",
        "        sync_folder(self._layout.vector_folder(vector))\n",
        "",
        ENSEMBLE,
    ),
    Mutant(
        "an array's length is taken on trust",
        "protocol/wire/arrays.py",
        "        if len(frame) != header.n_bytes:\n",
        "        if False:\n",
        ("tests/unit/protocol/wire/test_arrays.py",),
    ),
    Mutant(
        "a torn segment counts as committed",
        "exporter/run_directory/owned_directory.py",
        "            if _ends_whole(path):\n",
        "            if True:\n",
        ("tests/process/test_exporter.py::test_resume_lists_what_stands_and_drops_what_is_torn",),
    ),
    Mutant(
        "a run whose files were removed meanwhile is done",
        "exporter/export_runtime.py",
        "            problem = find_imbalance(self._layout, self._spec, self._path.committer.stamps, self._segments)\n",
        "",
        (
            "tests/unit/exporter/run_directory/test_export_balance.py::test_a_segment_that_is_removed_meanwhile_is_missed",
        ),
    ),
    Mutant(
        "a recount that does not add up is written down",
        "exporter/run_directory/balance.py",
        "    if counts.chunks != counts.committed + counts.quarantined:\n",
        "    if False:\n",
        ("tests/unit/exporter/run_directory/test_export_balance.py::test_counts_that_do_not_add_up_are_no_end",),
    ),
    Mutant(
        "two runs may write to one directory",
        "protocol/run_directory/directory_lock.py",
        "        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        fcntl.flock(fd, fcntl.LOCK_UN)\n",
        ("tests/unit/exporter/test_sinks.py::test_one_writer_at_a_time",),
    ),
    Mutant(
        "a message that cannot be written ends the process",
        "protocol/process/standard_streams.py",
        "            self.error = self.error or error\n",
        "            raise\n",
        ("tests/unit/protocol/process/test_standard_streams.py",),
    ),
    Mutant(
        "int8 is kept however far off it is",
        "exporter/segments/columns.py",
        "        if worst < INT8_COSINE:\n",
        "        if False:\n",
        ("tests/unit/protocol/vectors/test_storage.py::test_vectors_that_stand_out_make_a_segment_float16",),
    ),
    Mutant(
        "a pass that needs the corpus begins before it is measured",
        "coordinator/core/serving.py",
        "    return run.measured or not run.passes[pass_index].plan.after_intake\n",
        "    return run.intake_done or not run.passes[pass_index].plan.after_intake\n",
        POOL,
    ),
    Mutant(
        "a vector that is no number is exported",
        "protocol/vectors/unit_length.py",
        "wrong = ~(np.abs(squares - 1.0) <= 2 * NORM_TOLERANCE)",
        "wrong = np.abs(squares - 1.0) > 2 * NORM_TOLERANCE",
        ("tests/process/test_exporter.py::test_bad_rows_are_null_with_their_reason",),
    ),
)
