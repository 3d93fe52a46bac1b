-- wrk script: machine-readable answer, and optionally the headers a browser sends ("-- browser" after the address), or one
-- Cookie header after the other ("-- cookies NAME=VALUE ...").
-- 14 header lines, about 700 bytes, of the kinds and lengths seen in practice; the values mean nothing.

local browser = {
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br",
  ["Accept-Language"] = "en-GB,en;q=0.8,de;q=0.5,cs;q=0.3",
  ["Cache-Control"] = "max-age=0",
  ["Cookie"] = "session=4f1c0d1f6a1b4c9d8e7f60112233445566; theme=dark; consent=yes; visit=1700000000.5",
  ["DNT"] = "1",
  ["Pragma"] = "no-cache",
  ["Referer"] = "http://bench.local/catalogue/section/items?page=3&order=name",
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Upgrade-Insecure-Requests"] = "1",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
}

function init(args)
  wrk.headers["Host"] = "bench.local"
  if args[1] == "browser" then
    for name, value in pairs(browser) do wrk.headers[name] = value end
  elseif args[1] == "cookies" then
    local turn, requests = 0, {}
    for index = 2, #args do
      wrk.headers["Cookie"] = args[index]
      requests[index - 1] = wrk.format("GET")
    end
    request = function()
      turn = turn % #requests + 1
      return requests[turn]
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"unit": "request", "work": %d, "bytes": %d, "errors": %d, "seconds": %.6f, "p50_us": %.1f, "p99_us": %.1f}\n',
    summary.requests, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99)))
end
