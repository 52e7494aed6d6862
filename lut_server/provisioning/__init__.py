"""What a device installs: the script, the wheel of this lutnas, and the tested versions."""
