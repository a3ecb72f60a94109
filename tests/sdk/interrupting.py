"""Raises an exception where a signal handler may raise one, at each place of a call in turn.

CPython 3.11 runs signal handlers at the start of a function, after a call and at the end of a loop's body. A
first run finds these places; a later one raises the exception at one of them.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import dis
import os
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

import artfs

Site = tuple[CodeType, int]
"""A code object, and the offset of what is executed next."""

_OWN = os.path.dirname(artfs.__file__) + os.sep
_OTHERS = (contextlib.__file__, concurrent.futures.thread.__file__)
_CHECKED = {dis.opmap[name] for name in ("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD")}
#: The first instruction of an except block, after a call that raised: no signal handler runs in between, and
#: an exception there would keep the other one as the thread's current exception, with its traceback.
_HANDLER = dis.opmap["PUSH_EXC_INFO"]


def sites(call: Callable[[], object]) -> list[Site]:
    """Makes a call and returns the places that it passed, in order and each once."""
    found: dict[Site, None] = {}
    _traced(call, lambda site: bool(found.setdefault(site)))
    return list(found)


def interrupted(call: Callable[[], object], site: Site) -> bool:
    """Makes a call, and raises KeyboardInterrupt at a place; tells whether the call passed it."""
    try:
        _traced(call, site.__eq__)
    except KeyboardInterrupt:
        return True
    return False


def _traced(call: Callable[[], object], at: Callable[[Site], bool]) -> None:
    previous: dict[FrameType, int] = {}
    done = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        name = frame.f_code.co_filename
        if done or not (name.startswith(_OWN) or name in _OTHERS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            before, now = previous.get(frame), _instruction(frame.f_code, frame.f_lasti)
            previous[frame] = now
            if before in _CHECKED and now != _HANDLER and at((frame.f_code, frame.f_lasti)):
                done = True
                raise KeyboardInterrupt
        elif event == "return":
            previous.pop(frame, None)
        return trace

    was = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(was)
        previous.clear()


def _instruction(code: CodeType, offset: int) -> int:
    return _bytes(code)[offset]


@cache
def _bytes(code: CodeType) -> bytes:
    return code.co_code


def shown(site: Site) -> str:
    code, offset = site
    line = next(line for start, end, line in code.co_lines() if start <= offset < end)
    return f"{code.co_filename}:{line} in {code.co_qualname}"


__all__ = ["Site", "interrupted", "shown", "sites"]
