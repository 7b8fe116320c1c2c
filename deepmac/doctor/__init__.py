"""What an installation and its machine can do, and what is missing; see `examine.examine`.

Looks without importing: whatever is heavy, or may crash, hang or not be there, runs in processes
of its own (`probes`).
"""
