"""The latency of a response that needs no work."""

from __future__ import annotations

import http.client
import time

from textract_support.clients import JSON_11, SIGNED
from textract_support.emulator import RunningEmulator

# How long a client's system delays the acknowledgement of half a response.
DELAYED_ACKNOWLEDGEMENT_SECONDS = 0.04


def test_response_does_not_wait_for_delayed_acknowledgement(emulator: RunningEmulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    headers = {"X-Amz-Target": "Textract.ListAdapters", "Content-Type": JSON_11, "Authorization": SIGNED}
    times = []
    # A new connection acknowledges at once, and the minimum of many is independent of the load.
    for _ in range(60):
        began = time.perf_counter()
        connection.request("POST", "/", body=b"{}", headers=headers)
        connection.getresponse().read()
        times.append(time.perf_counter() - began)
    connection.close()
    assert min(times[20:]) < DELAYED_ACKNOWLEDGEMENT_SECONDS / 2
