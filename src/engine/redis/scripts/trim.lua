-- ARGV: the life; the number before which entries are forgotten.
local log, why = named()
if not log then return why end
local before = math.min(tonumber(ARGV[2]), log.last + 1)
-- Without a limit of its own a call would remove ten thousand entries at most.
for _ = 1, 10 do
    if redis.call('XTRIM', LOG, 'MINID', '~', text(before) .. '-0', 'LIMIT', 1000000) == 0 then break end
end
log.length = redis.call('XLEN', LOG)
save(log)

-- Hubs that have not appended for a day have ended long ago.
if redis.call('HLEN', HUBS) > 1000 then
    local now = tonumber(redis.call('TIME')[1]) * 1000
    local all = redis.call('HGETALL', HUBS)
    for at = 1, #all, 2 do
        local since = tonumber(string.match(all[at + 1], ' (%d+)$') or '')
        if all[at] ~= '' and since and now - since > 86400000 then redis.call('HDEL', HUBS, all[at]) end
    end
end
return {'ok'}
