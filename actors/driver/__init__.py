"""The driver: collects reports, decides how hard each endpoint is pushed, answers with orders."""
