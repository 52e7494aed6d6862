"""What a device needs to become one: the script that installs the agent, the wheel of this lutnas,
tested versions.
"""
