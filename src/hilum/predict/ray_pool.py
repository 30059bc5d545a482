"""The same work on a Ray cluster: an engine on each node, and answers in the order of the films."""

import json
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

from hilum.engines import open_engine
from hilum.errors import HilumError, MissingExtraError
from hilum.predict.job import Answer, Job, answers

FILMS_A_TASK = 256
"""What a worker answers for at a time, and what is done again where one is lost."""

WORKERS_A_NODE = 1
"""An engine takes all cores of its node."""

_THREADS = "OMP_NUM_THREADS"
_STORE_BYTES = 128 << 20  # answers are small; films do not go through Ray


class Worker:
    """An engine on a node. It reads the listing and the films itself, in the folder where the command was given."""

    def __init__(self, job: Job, working_folder: Path, batches: int, threads: str | None):
        os.chdir(working_folder)
        if threads is None:  # Ray sets 1 for a worker that asks for less than two cores; the engine takes all
            os.environ.pop(_THREADS, None)
        self.job, self.batches = job, batches
        self.engine = open_engine(job.asked.run, engine=job.engine, precision=job.precision)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """The task's batches, as JSON."""
        first = self.job.done + int(task["id"]) * self.batches
        films = islice(self.job.listing.read(first * self.job.batch), self.batches * self.job.batch)
        return {"answers": json.dumps(list(answers(self.job, self.engine, films)))}


def ray_answers(job: Job) -> Iterator[list[Answer]]:
    """As hilum.predict.job.answers, for the films of a job that are not done; a lost worker's films are done again.

    Films, bundle and output must have the same paths on every node.

    Raises:
        MissingExtraError: if Ray is not installed.
        HilumError: if there is no cluster at the address, or a worker cannot work.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError
    except ModuleNotFoundError:
        raise MissingExtraError("ray must be installed for this. Install it: pip install 'hilum[scale]'") from None
    batches = -(-FILMS_A_TASK // job.batch)
    tasks = -(-(job.films - job.done * job.batch) // (batches * job.batch))
    if tasks <= 0:
        return
    threads = os.environ.get(_THREADS)
    try:
        _connect(str(job.asked.ray))
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        nodes = sum(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]
        answered = ray.data.range(tasks, override_num_blocks=tasks).map(
            cast(Any, Worker),
            fn_constructor_args=(job, Path.cwd(), batches, threads),
            compute=ActorPoolStrategy(size=min(nodes * WORKERS_A_NODE, tasks)),
            num_cpus=0.5,  # room for Ray's own tasks on a node with one core
        )
        for task in answered.iter_rows():
            yield from json.loads(task["answers"])
    except (RayError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise HilumError(f"ray must be a cluster that can do the work, got {job.asked.ray!r}: {reason}") from error
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address != "local":
        ray.init(address=address, **options)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by the processes that Ray starts
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **options,
    )
