"""The lookup-table server: keeps devices, runs, latency tables and jobs, and serves them over HTTP."""
