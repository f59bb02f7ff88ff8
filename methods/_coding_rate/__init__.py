"""Coding rates: exact greedy selection on R_I - alpha R_P - beta R_C, and the coding rate of soft labels.

The rates are those of MCR2 (Yu et al. 2020) as SCORE uses them (arXiv 2503.13935, eqs. 5 to 7); see `objective` for
the two readings of their normaliser and `sequential`, `round_robin`, `global_order` and `running` for the algorithms.
All of them are exact: each pick is the candidate that a greedy which evaluates every log-determinant would take.
"""

from methods._coding_rate.greedy import Selection, greedy
from methods._coding_rate.labels_rate import label_coding_rate

__all__ = ["Selection", "greedy", "label_coding_rate"]
