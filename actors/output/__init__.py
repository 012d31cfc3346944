"""The output folder: the only ledger there is. What stands in it, under which names, and how it gets there."""
