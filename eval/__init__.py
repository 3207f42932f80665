"""How a router is judged: replay, exact curves, metrics, controls, statistics, verdict, report."""
