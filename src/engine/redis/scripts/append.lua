-- ARGV: the life; the hub; its connection; the counter after which it appends; for how many milliseconds keys count; the
-- mark of the life; then the counter, key and bytes of each entry.
-- Answers with a number for each: where it is; minus where its key is; 0 if it was there already.
local log, why = named()
if not log then return why end
local hub, connection, after, window = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local field = 'e' .. ARGV[6]
local counter, latest, accepted = 0, 0, 0
local before = redis.call('HGET', HUBS, hub)
if before then
    counter, latest, accepted = string.match(before, '^(%d+) (%d+) (%d+) ')
    counter, latest, accepted = tonumber(counter), tonumber(latest), tonumber(accepted)
end
-- What an earlier connection had asked for comes too late; and nothing overtakes what was refused.
if latest > connection or (latest < connection and after > 0) or (latest == connection and after > accepted) then
    return {'busy'}
end
if latest < connection then accepted = 0 end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer, keyed = {'ok'}, 0
for at = 7, #ARGV, 3 do
    local count, key, known = tonumber(ARGV[at]), ARGV[at + 1], nil
    if key ~= '' then
        local number, since = string.match(redis.call('HGET', KNOWN, key) or '', '^(%d+) (%d+)$')
        if number and now - tonumber(since) < window then known = tonumber(number) end
    end
    if known then
        answer[#answer + 1] = -known
    elseif count <= counter then
        answer[#answer + 1] = 0
    else
        answer[#answer + 1] = add(log, field, ARGV[at + 2])
        counter = count
        if key ~= '' then
            keyed = keyed + 1
            redis.call('HSET', KNOWN, key, text(log.last) .. ' ' .. text(now))
            redis.call('RPUSH', ORDER, text(now) .. ' ' .. key)
        end
    end
    if count > accepted then accepted = count end
end
redis.call('HSET', HUBS, hub, text(counter) .. ' ' .. text(connection) .. ' ' .. text(accepted) .. ' ' .. text(now))
save(log)

-- Each batch forgets more old keys than it adds, so they never pile up; and there are never more than a million.
for _ = 1, keyed > 0 and 2 * keyed + 2 or 0 do
    local oldest = redis.call('LINDEX', ORDER, 0)
    if not oldest then break end
    local since, key = string.match(oldest, '^(%d+) (.*)$')
    if now - tonumber(since) < window and redis.call('LLEN', ORDER) <= 1000000 then break end
    redis.call('LPOP', ORDER)
    if string.match(redis.call('HGET', KNOWN, key) or '', ' (%d+)$') == since then redis.call('HDEL', KNOWN, key) end
end
return answer
