"""The OpenAI-compatible embedding server for local use, behind `rayembed serve`."""
