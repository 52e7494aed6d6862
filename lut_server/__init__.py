"""The lookup-table server: keeps devices, runs, tables and jobs, and serves them over HTTP."""
