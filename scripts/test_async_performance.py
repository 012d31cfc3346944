"""The guide's performance test, which is `rayembed bench`: no test of ours, whatever its name.

    python scripts/test_async_performance.py --mode async|sync|both [--concurrent 4|8|16]

It saves a JSON file a mode in `quick_test_results/`; `python scripts/compare_results.py` draws them. What else it
takes is what `rayembed bench` takes: see `--help`.
"""

from __future__ import annotations

import sys

from launch import launch

if __name__ == "__main__":
    launch(["bench", *sys.argv[1:]])
