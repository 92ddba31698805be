-- What wrk sends: a decision for one seeded customer after another. Built once, so that the client costs little.
local requests, next_request = {}, 0

function init(arguments)
    local customers = tonumber(arguments[1])
    for number = 1, customers do
        requests[number] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" },
            string.format('{"context":{"targetingKey":"customer-%d"}}', number))
    end
end

function request()
    next_request = next_request % #requests + 1
    return requests[next_request]
end
