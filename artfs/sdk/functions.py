"""wandb's module-level functions: methods of the current run.

Owns the error where there is none, and ``artfs.config`` and ``artfs.summary`` before there is a run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from artfs.errors import UsageError
from artfs.sdk import run_context
from artfs.sdk.run import Run

P = ParamSpec("P")
R = TypeVar("R")


def running(what: str) -> Run:
    """Returns the current run, which `what` needs. Raises UsageError."""
    run = run_context.run()
    if run is None:
        raise UsageError(f"artfs.{what} needs a run: call artfs.init() first")
    return run


def _of_run(method: Callable[Concatenate[Any, P], R]) -> Callable[P, R]:
    """Makes a function that calls this method of the current run."""
    name = method.__name__

    @functools.wraps(method)
    def call(*args: P.args, **more: P.kwargs) -> R:
        found: R = getattr(running(f"{name}()"), name)(*args, **more)
        return found

    # The signature is the method's, without its first parameter.
    call.__wrapped__ = functools.partial(method, None)
    return call


class CurrentRunValues:
    """``artfs.config`` or ``artfs.summary``, taken before there was a run.

    Each use goes to that of the run that is current then. Raises UsageError if there is none.
    """

    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __repr__(self) -> str:
        return f"<artfs.{self._name}>" if run_context.run() is None else repr(self._target(""))

    def _target(self, key: str) -> Any:
        return getattr(running(f"{self._name}{key}"), self._name)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return getattr(self._target(f".{key}"), key)

    def __setattr__(self, key: str, value: object) -> None:
        setattr(self._target(f".{key}"), key, value)

    def __getitem__(self, key: str) -> Any:
        return self._target(f"[{key!r}]")[key]

    def __setitem__(self, key: str, value: object) -> None:
        self._target(f"[{key!r}]")[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._target("")

    def __iter__(self) -> Iterator[str]:
        return iter(self._target(""))


alert = _of_run(Run.alert)
define_metric = _of_run(Run.define_metric)
finish_artifact = _of_run(Run.finish_artifact)
link_artifact = _of_run(Run.link_artifact)
link_model = _of_run(Run.link_model)
log = _of_run(Run.log)
log_artifact = _of_run(Run.log_artifact)
log_code = _of_run(Run.log_code)
log_model = _of_run(Run.log_model)
save = _of_run(Run.save)
unwatch = _of_run(Run.unwatch)
upsert_artifact = _of_run(Run.upsert_artifact)
use_artifact = _of_run(Run.use_artifact)
use_model = _of_run(Run.use_model)
watch = _of_run(Run.watch)
