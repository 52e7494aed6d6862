"""The machine under the agent: processor, memory, temperature, throttling, emulation.

May import ort.
"""
