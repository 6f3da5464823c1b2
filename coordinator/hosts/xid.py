"""XIDs: what the NVIDIA driver reports of a GPU that has gone wrong.

Source: NVIDIA, "XID Errors" (docs.nvidia.com/deploy/xid-errors). The driver reports them only to processes that registered
beforehand.
"""

from __future__ import annotations

from typing import Any

HARDWARE = {
    48: "a double-bit memory error",
    62: "its microcontroller halted",
    64: "a memory row could not be remapped",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    95: "an uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
}
"""XIDs that mean a broken GPU. The others (13, 31, 43 …) may be caused by a program."""


class XidWatch:
    """Collects the XIDs of one GPU from now on; none where the driver does not report them (a MIG slice, no permission)."""

    def __init__(self, uuid: str, nvml: Any = None) -> None:
        self._nvml: Any = None
        self._set: Any = None
        if nvml is None:
            import pynvml as nvml
        try:
            nvml.nvmlInit()
            self._nvml, self._set = nvml, nvml.nvmlEventSetCreate()
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._set)
        except nvml.NVMLError:
            self.close()

    def take(self) -> list[int]:
        """The XIDs since the last call."""
        xids: list[int] = []
        while self._set is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, 0)
            except self._nvml.NVMLError:  # none is left, or the GPU is lost, which its memory sample shows
                break
            xids.append(int(event.eventData))
        return xids

    def close(self) -> None:
        """Free the driver's set. Safe to call again."""
        if self._set is not None:
            made, self._set = self._set, None
            try:
                self._nvml.nvmlEventSetFree(made)
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                return


def hardware_fault(xids: list[int]) -> str:
    """What is wrong with the GPU itself; empty: no fault is known."""
    return "; ".join(f"XID {xid}: {HARDWARE[xid]}" for xid in xids if xid in HARDWARE)
