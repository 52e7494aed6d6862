"""The search: one run per device table gives a family of networks, and a budget picks its member."""
