"""The words of the page about the gateway's costs; the figures come from runs."""

from typing import Final

BEGIN: Final = """\
# Benchmarks

What the gateway costs: CPU time per request of endpoint picker and Envoy, time added to the first byte, what runs
without requests, memory, throughput. This page is written by the benchmark itself; do not edit it. Repeat it with

```console
$ make bench ARGS="gateway --output run.json --report docs"
$ make bench ARGS="gateway --parts memory --output memory.json"
$ make bench ARGS="report run.json memory.json"
```

in about half an hour and another ten minutes for the second. Method and options: `benchmarks/README.md`.

Four arms share one set of model servers and take turns: **Envoy alone** (round robin, no filters); the **constant
picker**, which is the gateway's own Envoy configuration with a bare server of the usual gRPC library for Python that
answers constants; the same **on the gateway's own gRPC server**, so that what the logic adds to it shows; and the
**gateway** with all its logic and its log. Bars on the floor use the first of the two constant pickers. Absolute
figures are those of one machine; ratios are taken within a run, pass by pass.
"""

TITLES: Final = {
    "cells": "CPU and latency per request",
    "steady": "At a steady rate",
    "flat": "Long streams and short ones",
    "scrape": "Reading metrics pages",
    "throughput": "Requests per second",
    "mixed": "Small requests beside large ones",
    "memory": "Memory",
}

LEADS: Final = {
    "cells": """\
*Gross* is all CPU time that the picker used during a pass, by the number of requests. *Net* leaves out what it would
have used without them, reading metrics pages above all: streams of 512 events take a second each, so that few end per
second and each carries a large share of it. Net figures are held against the bars, of the gateway as of the constant
picker. Times are CPU time of the processes, so what else ran on the machine counts only in that it shares the caches.

Clients never pause here. With 16 and 64 of them client, Envoy, picker and model servers fill the processors, and the
time to the first byte is one of waiting for a processor: every request waits behind those that came before. What the
gateway adds by itself stands in the rows with one client, and in the next section.

A request also costs the more CPU the fewer come per second: each then wakes sleeping threads and finds cold caches. So
with the same number of clients long streams, of which few end per second, look dearer than short ones, of the constant
pickers too, to which a stream's length means nothing. Long and short streams at one rate have a section of their own.
""",
    "steady": """\
Requests come at random moments at three tenths of what the gateway could do: what is added to the time to the first
byte while the machine has time.
""",
    "flat": """\
Streams of 16 and of 512 events at one rate, so that nothing but their length can make the costs of their requests
differ. The bar rests on a gateway that reads metrics pages every five seconds, from which next to nothing has to be
taken off; the usual one, net of the pages it read, and the constant picker, to which length means nothing, stand
beside it.
""",
    "scrape": """\
The model servers write their clock into a gauge of a real metrics page of 54 KB. The true age of what the picker knows
is that clock's reading, as `/debug/state` shows it at random moments, taken off the moment at which the answer arrived:
the time on the way and for reading is in it. *Busy* endpoints have a silent stream open.
""",
    "throughput": """\
64 clients that never pause, one Envoy worker, one picker: what one gateway pod can do here. Client and model servers
run on the same machine and take their share of it.
""",
    "mixed": """\
Replies to 2 KB at a steady rate, alone and beside one other client that sends bodies of 30 MB one after the other, half
of them for streams, whose body the gateway changes and sends back. The other client has a network of 1 Gbit/s, or sends
as fast as loopback goes. What Envoy alone loses is the price of moving the bytes through one worker on this machine.
""",
    "memory": """\
No two requests are alike, so that everything that is remembered per prompt, request, user or model name fills up to its
bound. The first third is not judged; a line is fitted through the rest.
""",
}

END: Final = """\
## How to read the intervals

A figure is the median of the passes. The interval beside it holds the true median with a probability of at least 93 %,
whatever the distribution: from the k-th smallest to the k-th largest pass, with k from the binomial distribution. Of
five passes that is the whole range (93.75 %).

## Measured earlier, on another machine

A reference picker written in Go, with bodies in full duplex in both directions as it is deployed, used 0.53 ms of CPU
per JSON reply, 0.77 ms per stream of 16 events, 4.8 ms of 128, 18.6 ms of 512, and 3.7 ms for a prompt of 100 KB with
16 events; net of its scraping of 8 endpoints, which took 0.46 core. With 100 idle endpoints it filled both cores at a
third of its own reading rate. These are figures of another machine of two cores and say nothing about ratios here.
"""
