"""docs/images/way_of_a_round.svg: the files that a round passes on its way from the clock to a price.

Make it anew: python docs/figures/way_of_a_round.py
"""

from figure import save_way

STATIONS = [
    ("profiler_agent/timing/round_timer.py", "times canary, graph and canary"),
    ("shared/measurements/measurement.py", "what a round is: repeats, ratio, estimate"),
    ("profiler_agent/timing/campaign.py", "every task once per round, in random order"),
    ("profiler_agent/spool/run_spool.py", "on the disk before the next round begins"),
    ("profiler_agent/server/upload.py", "what the server lacks"),
    ("profiler_agent/server/server_client.py", "the route for measurements"),
    ("shared/wire.py", "values as JSON"),
    ("shared/http/client.py", "the request, and again where it failed"),
    ("lut_server/http/services.py", "what a route needs: store, clock, limits"),
    ("lut_server/http/requests.py", "reads and checks the body"),
    ("lut_server/http/routes/runs.py", "takes the batch, or nothing of it"),
    ("lut_server/store/sql/runs.py", "keeps the raw repeats"),
    ("lut_server/store/database.py", "a transaction"),
    ("lut_server/runs/finish_run.py", "begins when every task is there"),
    ("lut_server/calibration/table_builder.py", "drift out, fits, held-out error"),
    ("lut_server/calibration/op_calibration.py", "op prices with their covariance"),
    ("shared/tables/table.py", "the price, under the table's hash"),
]

if __name__ == "__main__":
    save_way("way_of_a_round", "From the clock to a price", STATIONS)
