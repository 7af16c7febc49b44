-- Finds the log, makes it, or mends it after somebody else has changed it: what was lost makes it another life.
-- ARGV: '', a token that nobody has had.
local role, life = server()
if role ~= 'master' then return {'replica'} end
local log = state()
if log.version and log.version ~= '1' then return {'newer', log.version} end

-- Another life. `forget`: of which entries the keys are forgotten; those before it are still there.
local function renew(forget)
    log.token = ARGV[2]
    redis.call('HSET', STATE, 'token', log.token, 'version', '1', 'end', text(log.last), 'length', text(log.length))
    redis.call('DEL', HUBS)
    redis.call('HSET', HUBS, '', log.token)
    if forget <= 1 then
        redis.call('DEL', KNOWN, ORDER)
    else
        local all = redis.call('HGETALL', KNOWN)
        for at = 1, #all, 2 do
            local number = tonumber(string.match(all[at + 1], '^(%d+) ') or '0')
            if all[at] == '' or number >= forget then redis.call('HDEL', KNOWN, all[at]) end
        end
    end
    redis.call('HSET', KNOWN, '', log.token)
end

local exists = redis.call('EXISTS', LOG) == 1
local length, id = 0, '0-0'
if exists then
    length = redis.call('XLEN', LOG)
    local about = redis.call('XINFO', 'STREAM', LOG)
    for at = 1, #about, 2 do
        if about[at] == 'last-generated-id' then id = about[at + 1] end
    end
end
local number, rest = string.match(id, '^(%d+)%-(%d+)$')
number = tonumber(number)

if not log.token then
    if exists then return {'foreign', id} end
    log.last, log.length = 0, 0
    renew(0)
elseif not exists and log.length > 0 then
    -- The stream was deleted. Its numbers are not given again.
    log.length = 0
    renew(0)
elseif not exists and log.last > 0 then
    -- So it was when the log was opened before: nothing has been appended since.
    if redis.call('HGET', HUBS, '') ~= log.token or redis.call('HGET', KNOWN, '') ~= log.token then renew(0) end
elseif number > log.last or rest ~= '0' then
    return {'foreign', id}
elseif number < log.last then
    -- An older stream stands in its place.
    log.last, log.length = number, length
    renew(number + 1)
elseif redis.call('HGET', HUBS, '') ~= log.token or redis.call('HGET', KNOWN, '') ~= log.token then
    log.length = length
    renew(0)
elseif length ~= log.length then
    -- Somebody else has trimmed it, or deleted entries. Their numbers say that they are missing.
    log.length = length
    save(log)
end
return {'ok', life .. ' ' .. log.token}
