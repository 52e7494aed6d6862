"""The search: a run gives a family of networks for each device, and a budget picks a member."""
