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
local curl = assert(io.popen("curl --silent --noproxy '*' --max-time 20 '" .. url .. "'"))
local answer = curl:read("*a")
curl:close()
assert(answer:find('"data":"hello"', 1, true), answer)

local stats = ffi.new("push_stats")
assert(push.push_stats_get(server[0], stats, ffi.sizeof(stats)) == push.PUSH_OK and stats.published == 1)
assert(push.push_stop(server[0], 0) == push.PUSH_OK)
assert(push.push_publish(server[0], "news", "x", 1) == push.PUSH_ERR_CLOSED)
print("ok")
