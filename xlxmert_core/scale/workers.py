"""One function over many items, here or on a cluster: results come back in the order of the items."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import isclass

RETRIES = 3  # of one item whose worker dies under it


class ClusterError(ValueError):
    """A cluster that cannot be used; the message says why and what to do."""


def parallel_map(function: Callable, items: Iterable, ray_workers: int = 0, **resources) -> Iterator:
    """``function(item)`` for every item, in order, here or by ``ray_workers`` workers of a Ray cluster.

    Args:
        function: also a class, which each worker makes once and then calls (a model that is loaded there).
        ray_workers: 0 works here, one item after another; else the caller has called ``ray.init``.
        resources: of one worker, for Ray: num_cpus (1), num_gpus, memory and so on.

    An item whose worker dies is given to another worker, three times at most, so ``function`` must not mind being
    called again. What ``function`` raises is raised here. Items and results travel by pickle.
    Raises :class:`ClusterError` without Ray or a cluster.
    """
    if ray_workers:
        return _on_ray(function, items, ray_workers, {"num_cpus": 1} | resources)
    return map(function() if isclass(function) else function, items)


def prefetch(function: Callable, items: Iterable, threads: int) -> Iterator:
    """``function(item)`` for every item, in order, by threads that run at most ``threads`` items ahead.

    For work that leaves Python's lock, such as decoding pictures; with 0 threads nothing runs ahead.
    """
    if not threads:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _on_ray(function: Callable, items: Iterable, workers: int, resources: dict) -> Iterator:
    try:
        import ray
        import ray.exceptions
        from ray import data
    except ImportError as error:
        raise ClusterError('Working on a cluster needs Ray: pip install "ray[data]".') from error
    if not ray.is_initialized():
        raise ClusterError("There is no cluster yet: call ray.init(), with its address or without one, before this.")
    rows = [{"item": pickle.dumps(item)} for item in items]
    if not rows:
        return
    context = data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    with data.DataContext.current(context):
        results = data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,  # ty: ignore[invalid-argument-type]  Ray makes an object of a class
            fn_constructor_args=(ray.put(function),),
            compute=data.ActorPoolStrategy(size=workers),
            ray_remote_args_fn=lambda: {"max_task_retries": RETRIES},
            **resources,
        )
    for row in _rows(results, ray.exceptions.RayError):
        result, error = pickle.loads(row["result"])
        if error is not None:
            raise error
        yield result


def _rows(dataset, failure: type[Exception]) -> Iterator[dict]:
    try:
        yield from dataset.iter_rows()
    except failure as error:
        reason = str(error).strip().splitlines()[-1]
        raise ClusterError(
            f"A worker of the cluster died on one item {1 + RETRIES} times, or could not start ({reason}): "
            "look into its log, and at its memory."
        ) from error


class _Worker:
    """What Ray starts on each worker, once: the function, or an object of the class."""

    def __init__(self, function):
        import ray

        function = ray.get(function)
        self.function = function() if isclass(function) else function

    def __call__(self, row: dict) -> dict:
        """{"item": bytes} -> {"result": bytes} of (result, None) or (None, what was raised)."""
        try:
            found = self.function(pickle.loads(row["item"])), None
        except Exception as error:  # it is raised again where the results are read
            found = None, error
        return {"result": _packed(found)}


def _packed(found: tuple) -> bytes:
    """Pickled; what does not survive that becomes a ClusterError with its words."""
    try:
        packed = pickle.dumps(found)
        pickle.loads(packed)
        return packed
    except Exception as error:
        lost = found[1] or error
        sentence = f"What a worker found or raised cannot be sent ({type(lost).__name__}: {lost}): see to it there."
        return pickle.dumps((None, ClusterError(sentence)))
