"""docs/images/way_of_a_pick.svg: the files that `search pick` passes from the command line to its answer.

Make it anew: python docs/figures/way_of_a_pick.py
"""

from figure import save_way

STATIONS = [
    ("search/cli.py", "finds the command"),
    ("search/commands/pick.py", "reads its flags, prints the answer"),
    ("search/commands/finished_run.py", "opens run, device and server"),
    ("search/runs/run_directory.py", "reads settings and tables"),
    ("search/family/picking.py", "which network for this budget"),
    ("search/family/family.py", "the candidates of the search"),
    ("search/decoding/decoding.py", "what the alphas say at this budget"),
    ("search/latency/latency_model.py", "bounds by op prices"),
    ("search/ranking/rank_aggregation.py", "orders all of them"),
    ("search/device/kernel_counts.py", "which kernels the device executes"),
    ("shared/tables/kernel_prices.py", "bounds by kernel prices"),
    ("shared/tables/table.py", "the prediction that is printed"),
]

if __name__ == "__main__":
    save_way("way_of_a_pick", "From `search pick` to the answer", STATIONS)
