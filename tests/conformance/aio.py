"""Linux AIO (io_submit(2) and friends) by raw system calls: the C library has no wrappers for them."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from types import TracebackType

_X86, _GENERIC = (206, 207, 208, 209), (0, 1, 4, 2)
_SETUP, _DESTROY, _GETEVENTS, _SUBMIT = _X86 if platform.machine() == "x86_64" else _GENERIC
_PWRITE = 1
# struct iocb of linux/aio_abi.h on little-endian machines: data, key, rw_flags, opcode, priority, fd, buffer,
# bytes, offset, reserved, flags, eventfd
_IOCB = struct.Struct("<QIiHhIQQqQII")
_EVENT = struct.Struct("<QQqq")  # data, object, result, second result

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class Aio:
    """One context for asynchronous I/O, with one request at a time."""

    def __init__(self) -> None:
        self._context = ctypes.c_ulong(0)
        _call(_SETUP, ctypes.c_long(1), ctypes.byref(self._context))

    def pwrite(self, fd: int, data: mmap.mmap, offset: int) -> int:
        """Submits a write of a whole mapping, aligned for O_DIRECT, and waits for its completion."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        block = _IOCB.pack(0, 0, 0, _PWRITE, 0, fd, address, len(data), offset, 0, 0, 0)
        request = ctypes.create_string_buffer(block, _IOCB.size)
        requests = (ctypes.c_void_p * 1)(ctypes.addressof(request))
        _call(_SUBMIT, self._context, ctypes.c_long(1), requests)
        event = ctypes.create_string_buffer(_EVENT.size)
        _call(_GETEVENTS, self._context, ctypes.c_long(1), ctypes.c_long(1), event, None)
        return int(_EVENT.unpack(event.raw)[2])

    def __enter__(self) -> Aio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _call(_DESTROY, self._context)
