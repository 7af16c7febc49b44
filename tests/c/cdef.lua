-- A host in Lua: luajit cdef.lua push.cdef.h libpush.so
local ffi = require("ffi")
local header = assert(io.open(arg[1]))
ffi.cdef(header:read("*a"))
header:close()
local push = ffi.load(arg[2])

local err = ffi.new("char[256]")
local config = push.push_config_new()
assert(push.push_config_set(config, "colour", "blue", err, 256) == push.PUSH_ERR_CONFIG)
assert(ffi.string(err):find("colour"))
assert(push.push_config_set(config, "listen", "127.0.0.1:0", err, 256) == push.PUSH_OK, ffi.string(err))
-- A callback on a thread that Lua does not know would end the process, so this host pulls the log.
assert(push.push_config_set(config, "log", "pull", err, 256) == push.PUSH_OK, ffi.string(err))
local server = ffi.new("push_server *[1]")
assert(push.push_start(config, server, err, 256) == push.PUSH_OK, ffi.string(err))
push.push_config_free(config)

local message = ffi.new("push_message", { size = ffi.sizeof("push_message"), channel = "news", data = "hello", len = 5 })
local position = ffi.new("push_position")
assert(push.push_publish_message(server[0], message, position) == push.PUSH_OK)
assert(position.seq == 1 and ffi.string(position.text):find("%-1$"))

local address = ffi.new("char[128]")
assert(push.push_listen_address(server[0], 0, address, 128) == push.PUSH_OK)
local url = "http://" .. ffi.string(address) .. "/push?channel=news&last=1"
local curl = assert(io.popen("curl --silent --noproxy '*' --max-time 120 '" .. url .. "'"))
local answer = curl:read("*a")
curl:close()
assert(answer:find('"data":"hello"', 1, true), answer)

local stats = ffi.new("push_stats")
assert(push.push_stats_get(server[0], stats, ffi.sizeof(stats)) == push.PUSH_OK and stats.published == 1)
-- The log, when its descriptor is readable: as a host does in its loop.
ffi.cdef("struct pollfd { int fd; short events, revents; }; int poll(struct pollfd *, unsigned long, int);")
local line = ffi.new("push_log_line", { size = ffi.sizeof("push_log_line") })
local lines = ""
local function take()
    while push.push_next_log(server[0], line, ffi.sizeof(line), 0) == push.PUSH_OK do
        assert(line.level >= push.PUSH_LOG_ERROR and line.level <= push.PUSH_LOG_DEBUG and line.time_ms > 0)
        local text = ffi.string(line.text, line.len)
        -- The environment may cause warnings.
        if text:find("^listening") or text == "stopped" then assert(line.level == push.PUSH_LOG_INFO) end
        lines = lines .. text .. "\n"
    end
end
local POLLIN = 1
local watched = ffi.new("struct pollfd", { fd = push.push_log_line_fd(server[0]), events = POLLIN })
assert(ffi.C.poll(watched, 1, 120000) == 1)
take()
assert(lines:find("listening on " .. ffi.string(address), 1, true), lines)
assert(ffi.C.poll(watched, 1, 0) == 0)

assert(push.push_stop(server[0], 0) == push.PUSH_OK)
assert(push.push_publish(server[0], "news", "x", 1) == push.PUSH_ERR_CLOSED)
take() -- the lines of the stop
assert(lines:find("stopped\n$"), lines)
assert(push.push_next_log(server[0], line, ffi.sizeof(line), -1) == push.PUSH_ERR_CLOSED)
push.push_log_line_clear(line)
print("ok")
