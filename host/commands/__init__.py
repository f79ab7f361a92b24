"""The commands of ``terngen``, one in each module.

They bring the layers together: gateware and simulation are imported inside a command, when it runs.
"""
