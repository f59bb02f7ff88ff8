"""The process that drives a run: it plans, hands stages to Ray and writes the records."""
