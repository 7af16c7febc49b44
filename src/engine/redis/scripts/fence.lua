-- ARGV: the life; the number of the fence that is expected to be the last, or 0; the bytes of the next one; the
-- mark of the life.
local log, why = named()
if not log then return why end
if log.fence ~= tonumber(ARGV[2]) then return {'ok', 0} end
local number = add(log, 'f' .. ARGV[4], ARGV[3])
redis.call('HSET', STATE, 'fence', text(number), 'fence_bytes', ARGV[3])
save(log)
return {'ok', 1}
