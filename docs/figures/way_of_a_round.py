"""docs/images/way_of_a_round.svg: the files that a round passes on its way from the clock to a price.

Make it anew: python docs/figures/way_of_a_round.py
"""

from figure import save_way

STATIONS = [
    ("profiler_agent/timing/round_timer.py", "times canary, graph and canary"),
    ("profiler_agent/timing/clock_watch.py", "drops it if the clock jumped"),
    ("profiler_agent/timing/campaign.py", "has every task once per round"),
    ("profiler_agent/spool/spool.py", "writes it to the disk at once"),
    ("profiler_agent/server/upload.py", "sends what the server lacks"),
    ("lut_server/http/routes/runs.py", "takes the batch, or nothing of it"),
    ("lut_server/store/sql/runs.py", "stores the raw repeats"),
    ("lut_server/runs/finish_run.py", "begins when every task is there"),
    ("shared/measurements/measurement.py", "ratio, estimate and interval"),
    ("lut_server/calibration/drift_correction.py", "takes out what networks share"),
    ("lut_server/calibration/op_calibration.py", "fits op prices, with a covariance"),
    ("lut_server/calibration/kernel_calibration.py", "fits kernel prices"),
    ("lut_server/calibration/table_builder.py", "adds the held-out error"),
    ("shared/tables/table.py", "the price, under the table's hash"),
]

if __name__ == "__main__":
    save_way("way_of_a_round", "From the clock to a price", STATIONS)
