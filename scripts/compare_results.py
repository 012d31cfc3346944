"""The guide's comparison, which is `rayembed compare`: `quick_test_results/` in, `comparison_report.html` out.

python scripts/compare_results.py [DIR] [-o FILE]
"""

from __future__ import annotations

import sys

from launch import launch

if __name__ == "__main__":
    launch(["compare", *sys.argv[1:]])
