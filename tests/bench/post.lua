-- wrk: one small POST again and again; says so when an answer was not 200.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"ids":[1,2,3,4,5],"priority":"HIGH"}'

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("result %.0f %.0f %.0f %d\n", summary.requests / summary.duration * 1e6,
        latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
