"""docs/images/way_of_a_pick.svg: the files that `search pick` passes from the command line to its answer.

Make it anew: python docs/figures/way_of_a_pick.py
"""

from figure import save_way

STATIONS = [
    ("search/cli.py", "finds the command"),
    ("search/commands/pick.py", "reads its flags, prints the answer"),
    ("search/runs/run_directory.py", "opens the run"),
    ("shared/tables/table.py", "reads the device's table"),
    ("search/family/picking.py", "which network for this budget"),
    ("search/decoding/decoding.py", "asks the alphas at this budget"),
    ("search/latency/latency_model.py", "bounds them by op prices"),
    ("search/device/kernel_counts.py", "which kernels the device runs"),
    ("shared/tables/kernel_prices.py", "bounds them by kernel prices"),
    ("search/ranking/rank_aggregation.py", "orders those within the budget"),
]

if __name__ == "__main__":
    save_way("way_of_a_pick", "From `search pick` to the answer", STATIONS)
