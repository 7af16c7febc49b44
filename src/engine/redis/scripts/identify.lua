-- ARGV: the life; a number.
-- Answers with the last number, the first, the last fence's number and bytes, and the field and bytes of the entry.
local log, why = named()
if not log then return why end
local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
local entry = redis.call('XRANGE', LOG, ARGV[2] .. '-0', ARGV[2] .. '-0')[1]
return {
    'ok',
    text(log.last),
    first and first[1] or text(log.last + 1) .. '-0',
    text(log.fence),
    log.fence_bytes or '',
    entry and entry[2][1] or '',
    -- Only its head is looked at.
    entry and string.sub(entry[2][2], 1, 64) or '',
}
