-- wrk: GET, or with a file (wrk ... URL -- FILE) POST of what is in it, again and again.
function init(args)
    if args[1] then
        local file = assert(io.open(args[1], "rb"))
        wrk.method = "POST"
        wrk.headers["Content-Type"] = "application/json"
        wrk.body = file:read("*a")
        file:close()
    end
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("result %.3f %d %.0f %.0f %d\n", summary.requests / summary.duration * 1e6,
        summary.requests, latency:percentile(50), latency:percentile(99),
        e.connect + e.read + e.write + e.status + e.timeout))
end
