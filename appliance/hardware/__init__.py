"""What this machine has and how much of it is free: RAM under its cgroup limits, processors, NVIDIA GPUs.

It measures and decides nothing; the scheduler's ledger does. Nothing here ever fails for want of a GPU.
"""
