-- What people would set up instead: the ten rules of rules.yaml by hand, over a profile that Redis keeps as a hash. Read by
-- nginx (references.py writes the rest of its configuration); REDIS_PORT is the port. A connection to Redis is kept for the
-- next request, and the answer is what the agent answers.
local rules = {}

-- The fields in the order in which they are asked for.
local ask = "*14\r\n$5\r\nHMGET\r\n"
local fields = {
    "revenue", "orders", "views", "largest", "viewed", "categories", "country", "payment", "first_shop", "store", "seen_at",
    "vip",
}

local function has(list, word)
    return string.find(list, "," .. word .. ",", 1, true) ~= nil
end

local conditions = {
    function(p) return p.vip and p.orders >= 2 and p.revenue > 100 and p.country == "DE" and p.payment == "invoice" end,
    function(p)
        return p.views >= 2 and has(p.viewed, "p-1") and p.largest > 50 and (p.country == "AT" or p.country == "DE")
            and p.orders > 90
    end,
    function(p)
        return (p.country == "DE" or p.country == "AT" or p.country == "CH") and p.orders < 10 and p.revenue < 1000 and p.vip
            and p.views > 70000000
    end,
    function(p)
        return p.seen_at and p.seen_at < ngx.now() and p.views > 0 and p.revenue >= 100 and has(p.viewed, "p-9")
    end,
    function(p)
        return p.first_shop == "berlin" and p.store == "berlin" and p.orders > 1 and p.largest < 500
            and (p.payment == "cash" or p.payment == "voucher")
    end,
    function(p)
        return p.vip and p.revenue > 150 and p.views ~= 0 and (p.payment == "card" or p.payment == "cash")
            and p.first_shop == "hamburg"
    end,
    function(p)
        return has(p.viewed, "p-2") and p.orders >= 1 and p.largest >= 80 and p.country ~= "FR" and p.revenue > 5000
    end,
    function(p)
        return p.orders >= 2 and p.orders <= 5 and p.revenue <= 900 and (p.store == "berlin" or p.store == "bremen")
            and not p.vip
    end,
    function(p)
        return p.views > 1 and p.largest > 10 and p.country == "DE" and p.payment ~= "invoice" and p.store == "hamburg"
    end,
    function(p)
        return p.vip and p.orders == 2 and p.revenue > 100 and (p.country == "FR" or p.country == "DE")
            and has(p.viewed, "p-3")
    end,
}
local serve = { "five", "five", "five", "five", "five", "five", "five", "five", "five", "ten" }
local values = { none = 0, five = 5, ten = 10 }

local function read(key)
    local redis = ngx.socket.tcp()
    local ok, err = redis:connect("127.0.0.1", REDIS_PORT)
    if not ok then return nil, err end
    redis:send(ask .. "$" .. #key .. "\r\n" .. key .. "\r\n" .. rules.tail)
    redis:receive()
    local person = {}
    for index = 1, #fields do
        local size = tonumber(string.sub(redis:receive(), 2))
        if size >= 0 then
            person[fields[index]] = redis:receive(size)
            redis:receive(2)
        end
    end
    redis:setkeepalive(10000, 1000)
    for _, name in ipairs({ "revenue", "orders", "views", "largest", "seen_at" }) do person[name] = tonumber(person[name]) end
    person.vip = person.vip == "1"
    return person
end

function rules.begin()
    local parts = {}
    for index, name in ipairs(fields) do parts[index] = "$" .. #name .. "\r\n" .. name .. "\r\n" end
    rules.tail = table.concat(parts)
end

function rules.decide()
    ngx.req.read_body()
    local key = string.match(ngx.req.get_body_data() or "", '"targetingKey"%s*:%s*"([^"]+)"')
    local person = key and read("profile:" .. key)
    local variant = "none"
    if person and person.orders then
        for index = 1, #conditions do
            if conditions[index](person) then
                variant = serve[index]
                break
            end
        end
    end
    ngx.header["Content-Type"] = "application/json"
    ngx.print('{"key":"checkout_offer","value":{"discount":', values[variant], '},"reason":"TARGETING_MATCH","variant":"',
        variant, '","metadata":{}}')
end

rules.begin()
return rules
