"""What crosses a process boundary: each kind of message defined once, as plain frozen data.

Texts and vectors are not here on purpose: they go input file -> embedder -> server -> part and pass
through no other process.
"""

from actors.messages.endpoints import Endpoint, Limits, Wanted
from actors.messages.job import JobSpec, Reuse
from actors.messages.leases import Claim, Grant, Lease, PartDone, QueueStatus
from actors.messages.orders import Order, Orders
from actors.messages.plan import Columns, Part, SourceFile, Start
from actors.messages.reports import Allowance, Completion, EndpointReport, Failure, GpuSample, QueueSample, Report
from actors.messages.status import DriverStatus, EndpointLoad, EndpointStatus, Load, Verdict

__all__ = [
    "Allowance",
    "Claim",
    "Columns",
    "Completion",
    "DriverStatus",
    "Endpoint",
    "EndpointLoad",
    "EndpointReport",
    "EndpointStatus",
    "Failure",
    "GpuSample",
    "Grant",
    "JobSpec",
    "Lease",
    "Limits",
    "Load",
    "Order",
    "Orders",
    "Part",
    "PartDone",
    "QueueSample",
    "QueueStatus",
    "Report",
    "Reuse",
    "SourceFile",
    "Start",
    "Verdict",
    "Wanted",
]
