#!/usr/bin/python3
"""Hands IDs in and waits until they are done:   ingest.py ID...

Nothing but Python and libsluice.so.0, which is described in sluice/client.h.
"""
import ctypes
import json
import sys
import time

lib = ctypes.CDLL("libsluice.so.0")
lib.sluice_result_text.restype = ctypes.c_char_p
lib.sluice_close.argtypes = [ctypes.c_void_p]
lib.sluice_free.argtypes = [ctypes.c_void_p]
lib.sluice_mint.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
lib.sluice_request.argtypes = [
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_size_t),
]


def check(result):
    if result != 0:
        sys.exit(lib.sluice_result_text(result).decode())


class Scheduler:
    """The scheduler at `address`; None: where it is looked for by default."""

    def __init__(self, address=None, timeout_ms=5000):
        self.client = ctypes.c_void_p()
        check(lib.sluice_open(address and address.encode(), timeout_ms, ctypes.byref(self.client)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        lib.sluice_close(self.client)

    def mint(self):
        text = ctypes.create_string_buffer(37)
        check(lib.sluice_mint(self.client, text))
        return text.value.decode()

    def ask(self, **request):
        line = json.dumps(request).encode() + b"\n"
        reply, size = ctypes.c_void_p(), ctypes.c_size_t()
        check(lib.sluice_request(self.client, line, len(line), ctypes.byref(reply), ctypes.byref(size)))
        answer = json.loads(ctypes.string_at(reply, size.value))
        lib.sluice_free(reply)
        if "error" in answer:
            sys.exit("{code}: {message}".format(**answer["error"]))
        return answer


with Scheduler() as scheduler:
    # The ID is minted here: however often this line is sent, it is one ingestion.
    ingestion = scheduler.mint()
    scheduler.ask(op="ingest", id=ingestion, ids=[int(word) for word in sys.argv[1:]], priority="HIGH")
    print(ingestion)
    while (status := scheduler.ask(op="status", id=ingestion, limit=1)["status"]) in ("yet_to_start", "triggered"):
        time.sleep(0.1)
    print(status)
