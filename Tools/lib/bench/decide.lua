-- What wrk sends: a decision for one seeded customer after another. Built once, so that the client costs little.
--
-- Arguments: how many; and, if they are not customer-1 and so on, the form of a name, the first number of all that may be
-- asked for, how many these are, which of them is first here, and how far it is to the next.
local requests, next_request = {}, 0

function init(arguments)
    local customers = tonumber(arguments[1])
    local form, base = arguments[2] or "customer-%d", tonumber(arguments[3] or 1)
    local span, first, stride = tonumber(arguments[4] or customers), tonumber(arguments[5] or 0), tonumber(arguments[6] or 1)
    for index = 1, customers do
        local name = string.format(form, base + (first + (index - 1) * stride) % span)
        requests[index] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" },
            '{"context":{"targetingKey":"' .. name .. '"}}')
    end
end

function request()
    next_request = next_request % #requests + 1
    return requests[next_request]
end
