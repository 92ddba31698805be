"""Runs the end-to-end tests: `python3 Tests/end-to-end/run.py [WORD …]` runs those whose name contains a word.

The last line is `N passed, N failed, N skipped`.
"""

import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import Bench, Failure, Skip


def main(words):
    folder = os.path.dirname(os.path.abspath(__file__))
    passed = failed = skipped = 0
    for file in sorted(os.listdir(folder)):
        if not file.startswith("test_"):
            continue
        module = importlib.import_module(file[:-3])
        for name in [name for name in vars(module) if name.startswith("test_")]:
            if words and not any(word in f"{file} {name}" for word in words):
                continue
            begin = time.monotonic()
            bench = Bench()
            try:
                try:
                    getattr(module, name)(bench)
                finally:
                    bench.close()
                passed += 1
                print(f"ok    {name}  ({time.monotonic() - begin:.1f} s)", flush=True)
            except Skip as skip:
                skipped += 1
                print(f"skipped: {name}: {skip}", flush=True)
            except Failure as failure:
                failed += 1
                print(f"FAILED {name}: {failure}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {name}:\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed else 1


sys.exit(main(sys.argv[1:]))
