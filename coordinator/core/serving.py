"""Which device may work for which pass, when a pass may begin, and when another worker is worth its start."""

from __future__ import annotations

from .state import DeviceSlot, Fleet, Run


def serving_devices(fleet: Fleet, run: Run, pass_index: int) -> list[DeviceSlot]:
    """Devices that may work for the pass, those given up among them."""
    return [slot for slot in fleet.devices.values() if may_serve(fleet, slot, run, pass_index)]


def may_serve(fleet: Fleet, slot: DeviceSlot, run: Run, pass_index: int) -> bool:
    """Whether the device is of a kind that works for the pass."""
    plan = run.passes[pass_index].plan
    if slot.device.helper and not plan.light:
        return False
    if plan.cpu_only or plan.gpu_only:
        return slot.device.kind == ("cpu" if plan.cpu_only else "cuda")
    return not slot.device.auxiliary or (run.options.cpu_fallback and _gpus_are_given_up(fleet, pass_index))


def is_worth_a_start(fleet: Fleet, slot: DeviceSlot, run: Run, pass_index: int) -> bool:
    """Whether a worker on the device would have enough to do. A helper has if there is an uncut segment for it, beside those
    of the workers there are and of one on a device that is no helper; or if no such device can work for the pass."""
    if not slot.device.helper:
        return True
    others = [one for one in serving_devices(fleet, run, pass_index) if not one.device.helper]
    if all(one.health.given_up(pass_index) for one in others):
        return True
    helping = sum(bool(fleet.devices[one.device].device.helper) for one in fleet.workers.values())
    return len(run.passes[pass_index].uncut) > helping + 1


def may_begin(run: Run, pass_index: int) -> bool:
    """Whether the pass may begin: BM25 waits until the average length of the whole corpus is known."""
    return run.measured or not run.passes[pass_index].plan.after_intake


def is_in_doubt(run: Run) -> bool:
    """Whether a model was refused, and no chunk with weights in its metadata has been read yet.

    If none comes, the run fails at the end of the intake, and what other models compute until then is wasted.
    """
    return not run.intake_done and any(one.refused and not one.given_up for one in run.passes)


def _gpus_are_given_up(fleet: Fleet, pass_index: int) -> bool:
    working = [slot for slot in fleet.devices.values() if not slot.device.auxiliary]
    return bool(working) and all(slot.health.given_up(pass_index) for slot in working)
