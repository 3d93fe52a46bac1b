"""Load tools of the benchmarks (C, compiled on demand), the wrk script and the locust scenario."""
