"""One side of a comparison, as ../side.h says: lines of a number in, medians of so many steps in milliseconds out."""
import statistics
import sys
import time


def absent(reason):
    print("absent", reason)
    sys.exit(0)


def serve(step, begin=lambda: None):
    print("ready", flush=True)
    for line in sys.stdin:
        begin()
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        print(f"{statistics.median(times):.6f}", flush=True)
