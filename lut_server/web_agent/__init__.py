"""The profiler agent for a browser: a page that measures the device it is open on, and onnxruntime-web beside it."""
