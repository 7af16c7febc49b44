-- Stands before each of the other scripts.
-- KEYS: the stream; what is known of it; the hubs' counters; the idempotency keys; these in their order.
-- ARGV[1]: the life of the log that the connection is about. Every script looks first whether it is still that one.
local LOG, STATE, HUBS, KNOWN, ORDER = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
-- Before Redis 7 a script that asks for the time must say that its effects are replicated, and not its text.
if redis.replicate_commands then redis.replicate_commands() end

local function text(number) return string.format('%.0f', number) end

-- The role of the server, and the id of its history of replication. A master has a new id each time it starts, and each
-- time a replica becomes one. Another section of INFO would double the time of each script.
local function server()
    local replication = redis.call('INFO', 'replication')
    return string.match(replication, 'role:(%a+)'), string.match(replication, 'master_replid:(%x+)') or '?'
end

local function state()
    local fields = redis.call('HMGET', STATE, 'token', 'version', 'end', 'length', 'fence', 'fence_bytes')
    return {
        token = fields[1],
        version = fields[2],
        last = tonumber(fields[3] or '0'),
        length = tonumber(fields[4] or '0'),
        fence = tonumber(fields[5] or '0'),
        fence_bytes = fields[6],
    }
end

-- The state of the log, if it is the one that was named. Otherwise nothing, and why.
local function named()
    local role, life = server()
    if role ~= 'master' then return nil, {'replica'} end
    local log = state()
    if not log.token or life .. ' ' .. log.token ~= ARGV[1] then return nil, {'other'} end
    if redis.call('HGET', HUBS, '') ~= log.token or redis.call('HGET', KNOWN, '') ~= log.token then
        return nil, {'other'}
    end
    if redis.call('XLEN', LOG) ~= log.length then return nil, {'changed'} end
    return log
end

-- Appends one entry, and says its number. The name of its field has the mark of the life, so a reader sees which life the
-- entry is of. Redis keeps a name once for all entries of a node that have the same. Nothing is written before the first one, so a server without memory refuses
-- all of a script or nothing of it.
local function add(log, field, bytes)
    redis.call('XADD', LOG, text(log.last + 1) .. '-0', field, bytes)
    log.last, log.length = log.last + 1, log.length + 1
    return log.last
end

local function save(log)
    redis.call('HSET', STATE, 'end', text(log.last), 'length', text(log.length))
end
