"""Several processes that train one model: which one this is, what they tell each other, and how they are started."""

import hashlib
import json
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from hilum.errors import ElsewhereError, HilumError, ProcessLostError, TrainingStoppedError
from hilum.messages import silence

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for another one that is alive, such as one that packs films on its own node."""


@dataclass(frozen=True)
class Processes:
    """This process among all that train one model together.

    Attributes:
        rank, count: its number from 0, and how many there are.
        local_rank, local_count: the same among those of this machine; each has the device of its local number.
        slurm: started by srun, whose variables say where the first process listens.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    slurm: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.count // self.local_count

    def describe(self) -> str:
        """Its name in messages."""
        return f"process {self.rank} of {self.count} on {socket.gethostname()}"


def find_processes() -> Processes:
    """This process as torchrun's or srun's variables say; alone without them.

    Raises:
        HilumError: if the variables are not numbers, or the machines have different numbers of processes.
    """
    number = os.environ
    try:
        if "RANK" in number and "WORLD_SIZE" in number:
            found = Processes(
                int(number["RANK"]),
                int(number["WORLD_SIZE"]),
                int(number.get("LOCAL_RANK", 0)),
                int(number.get("LOCAL_WORLD_SIZE", 1)),
            )
        elif int(number.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # which only srun sets, not sbatch
            count, nodes = int(number["SLURM_STEP_NUM_TASKS"]), int(number.get("SLURM_STEP_NUM_NODES", 1))
            found = Processes(
                int(number["SLURM_PROCID"]), count, int(number["SLURM_LOCALID"]), -(-count // nodes), slurm=True
            )
        else:
            return Processes()
    except (KeyError, ValueError) as error:
        raise HilumError(
            f"RANK, WORLD_SIZE and LOCAL_RANK, or SLURM_PROCID and SLURM_LOCALID, must be numbers, got {error}. Start "
            "with torchrun or srun, which set them, or unset them"
        ) from None
    if found.count % found.local_count or not 0 <= found.local_rank < found.local_count:
        raise HilumError(
            f"machines must have the same number of processes each, got {found.count} processes with "
            f"{found.local_count} on this one. Use: --ntasks-per-node"
        )
    return found


def check_processes(found: Processes, *, devices: int | None, nodes: int | None) -> None:
    """Refuse --devices and --nodes that are not what torchrun or srun started.

    Raises:
        HilumError: naming both.
    """
    for name, wanted, there in (("devices", devices, found.local_count), ("nodes", nodes, found.nodes)):
        if wanted is not None and wanted != there:
            started = f"{found.count} processes on {found.nodes} machines were started"
            how = "Start all of them with torchrun or srun, and leave the option out"
            raise HilumError(f"{name} must be {there}, since {started}, got {wanted}. {how}")


# --- what they tell each other


_host: Any = None
"""The group for what lies in the host's memory. A process that has died is seen here at once, on a GPU only later."""


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Connect the processes for the time of the block; nothing if there is one only, or they are connected already.

    Raises:
        ProcessLostError: if another process ends within the block.
        HilumError: of processes other than the first, with their name in front.
    """
    global _host
    if processes.count == 1 or dist.is_initialized():
        yield
        return
    if not processes.first:
        silence()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(processes.local_rank)
    if processes.slurm:
        slurm = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
    try:
        store = _fresh_store(processes)
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=processes.rank,
            world_size=processes.count,
            timeout=PATIENCE,
        )
        _host = dist.new_group(backend="gloo", timeout=PATIENCE) if cuda else None
        yield
    except (ElsewhereError, TrainingStoppedError):
        raise
    except HilumError as error:
        if processes.first:
            raise
        raise type(error)(f"{processes.describe()}: {error}") from None
    except RuntimeError as error:  # gloo has no type of its own
        if isinstance(error, dist.DistError) or re.search(r"gloo|nccl|Connection|Broken pipe", str(error)):
            _lost(processes, error)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        _host = None


_stores: list[Any] = []
"""The store where the processes find each other, then its part for each time that they were connected."""


def _fresh_store(processes: Processes) -> Any:
    """A store without the addresses of an earlier connection, which would be waited for in vain."""
    if not _stores:
        found = next(rendezvous("env://", processes.rank, processes.count, timeout=PATIENCE))
        _stores.append(found[0])
    _stores.append(PrefixStore(f"hilum-{len(_stores)}", _stores[0]))
    return _stores[-1]


def _lost(processes: Processes, error: RuntimeError) -> NoReturn:
    reason = str(error).splitlines()[0]
    raise ProcessLostError(
        f"{processes.describe()}: another process of this training has ended, and so must this one ({reason}). Nothing "
        "before the last saving is lost: go on with the same command and --resume"
    ) from None


def process_count() -> int:
    """How many processes are connected; 1 outside `joined`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """This process's number among them; 0 outside `joined`."""
    return dist.get_rank() if dist.is_initialized() else 0


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, in place; every process has the same bits."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def highest(*numbers: int) -> list[int]:
    """The highest of each number over all processes."""
    if not dist.is_initialized():
        return list(numbers)
    values = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(values, dist.ReduceOp.MAX, group=_host)
    return [int(value) for value in values.tolist()]


def gathered(here: T) -> list[T]:
    """What each process has, in order of their numbers."""
    if not dist.is_initialized():
        return [here]
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, here, group=_host)
    return cast(list[T], every)


def together(work: Callable[[], T]) -> T:
    """Do what every process must do well before any goes on.

    Returns:
        What `work` gives in this process.

    Raises:
        HilumError: of `work`, in the lowest process where it failed; ElsewhereError in the others.
    """
    error: HilumError | None = None
    try:
        done = work()
    except HilumError as raised:
        error = raised
    failures = gathered(error and (str(error), _code(error)))
    failed = next((rank for rank, failure in enumerate(failures) if failure), None)
    if failed is None:
        return done
    if error is not None and failed == process_rank():
        raise error
    message, code = failures[failed] or ("", 2)
    raise ElsewhereError(message, code)


def said_once(error: HilumError) -> HilumError:
    """An error that all processes raise at the same place, so that the first one alone says it."""
    return error if process_rank() == 0 else ElsewhereError(str(error), _code(error))


def _code(error: HilumError) -> int:
    return 1 if isinstance(error, TrainingStoppedError) else getattr(error, "code", 2)


def check_same(what: str, here: Any) -> None:
    """Refuse to go on if the processes were started with different things.

    Raises:
        HilumError: in every process.
    """
    digest = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()
    if len(set(gathered(digest))) > 1:
        raise said_once(
            HilumError(f"{what} must be the same in all processes, got different ones. Use one manifest and recipe")
        )


class Environment(ClusterEnvironment):
    """The processes as Lightning asks for them, whatever started them."""

    def __init__(self, processes: Processes):
        super().__init__()
        self.processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """They are there already."""
        return True

    @property
    def main_address(self) -> str:
        """Not asked for: they are connected already."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """Not asked for: they are connected already."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """Never by itself."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self.processes.count

    def set_world_size(self, size: int) -> None:
        """It stands."""

    def global_rank(self) -> int:
        """This process's number."""
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        """It stands."""

    def local_rank(self) -> int:
        """Its number on this machine."""
        return self.processes.local_rank

    def node_rank(self) -> int:
        """This machine's number."""
        return self.processes.rank // self.processes.local_count


# --- starting them


def devices_here() -> int:
    """GPUs that this process sees; 1 without any."""
    return max(1, torch.cuda.device_count())


def launch(arguments: Sequence[str], devices: int) -> int:
    """Run a command of Hilum's in so many processes on this machine, and wait for their end.

    As soon as one process has ended badly, the others are asked to end, and after half a minute made to.

    Args:
        arguments: the command and its arguments, as after `hilum`.
        devices: how many processes.

    Returns:
        The exit code: 0, or what the process that ended first ended with.

    Raises:
        ProcessLostError: naming a process that was killed or crashed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # what matters, Hilum says itself
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))

    def forward(number: int, frame: FrameType | None) -> None:
        raise SignalException(f"got signal {number}", signal.Signals(number))

    before = signal.signal(signal.SIGUSR1, forward) if hasattr(signal, "SIGUSR1") else None
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            run_id="hilum",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "hilum", *arguments)
        except ChildFailedError as failed:
            return _named(failed.failures, devices)
        except SignalException:
            return 1  # the first process has said so
        finally:
            if before is not None:
                signal.signal(signal.SIGUSR1, before)
    return 0


_SPOKEN = (1, 2)
"""Exit codes of processes that have said why: stopped and saved, or a mistake that has a name."""


def _named(failures: dict[int, Any], devices: int) -> int:
    for rank, failure in sorted(failures.items(), key=lambda item: cast(float, item[1].timestamp)):
        code = failure.exitcode
        if code not in _SPOKEN:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise ProcessLostError(
                f"process {rank} of {devices} {how}, and the others with it. Nothing before the last saving is lost: "
                "go on with the same command and --resume"
            )
    return max(int(failure.exitcode) for failure in failures.values())
