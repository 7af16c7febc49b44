# A host in Ruby: ruby cdef.rb push.cdef.h libpush.so
require "fiddle/import"
require "json"
require "net/http"

# Fiddle reads declarations one by one. The numbers and the functions are those of the header.
HEADER = File.read(ARGV[0])
NUMBERS = HEADER.scan(/^ +(PUSH_\w+) = (-?\d+)/).to_h { |name, value| [name.to_sym, value.to_i] }

module Push
  extend Fiddle::Importer
  dlload ARGV[1]
  typealias "push_status", "int"
  typealias "int32_t", "int"
  typealias "uint32_t", "unsigned int"
  typealias "int64_t", "long long"
  typealias "uint64_t", "unsigned long long"
  # Only what this host calls, with every pointer as void *.
  %w[push_config_new push_config_set push_config_free push_start push_stop push_publish push_listen_address
     push_next_log push_log_line_fd push_log_line_clear].each do |name|
    declaration = HEADER[/^[\w *]*\b#{name}\([^;]*/m].gsub(/\s+/, " ")
    extern declaration.gsub(/(const )?(push_config|push_server|push_log_line|char|void) \*+/, "void *")
  end
  Line = struct ["size_t size", "int32_t level", "uint32_t reserved", "int64_t time_ms", "void *text", "size_t len",
                 "void *owner"]
end

def check(holds, what)
  abort "not so: #{what}" unless holds
end

err = "\0" * 256
config = Push.push_config_new
check(Push.push_config_set(config, "colour", "blue", err, 256) == NUMBERS[:PUSH_ERR_CONFIG], "an unknown option")
check(err.include?("colour"), "the error names it")
# A callback on a thread that Ruby does not know would end the process, so this host pulls the log.
{ "listen" => "127.0.0.1:0", "log" => "pull" }.each do |name, value|
  check(Push.push_config_set(config, name, value, err, 256) == NUMBERS[:PUSH_OK], err)
end
out = "\0" * Fiddle::SIZEOF_VOIDP
check(Push.push_start(config, out, err, 256) == NUMBERS[:PUSH_OK], err)
server = Fiddle::Pointer.new(out.unpack1("J"))
Push.push_config_free(config)

check(Push.push_publish(server, "news", "hello", 5) == NUMBERS[:PUSH_OK], "published")
address = "\0" * 128
check(Push.push_listen_address(server, 0, address, 128) == NUMBERS[:PUSH_OK], "it listens")
address = address.delete("\0")
host, port = address.split(":")
# The fourth and fifth arguments: no proxy.
answer = Net::HTTP.start(host, port.to_i, nil, nil) { |http| http.get("/push?channel=news&last=1").body }
check(JSON.parse(answer)["messages"][0]["data"] == "hello", answer)

LEVELS = NUMBERS[:PUSH_LOG_ERROR]..NUMBERS[:PUSH_LOG_DEBUG]
lines = []
line = Push::Line.malloc(Fiddle::RUBY_FREE)
line.to_ptr[0, Push::Line.size] = "\0" * Push::Line.size
line.size = Push::Line.size
take = lambda do
  while (status = Push.push_next_log(server, line, Push::Line.size, 0)) == NUMBERS[:PUSH_OK]
    text = line.text[0, line.len]
    # The environment may cause warnings.
    wanted = text.start_with?("listening") || text == "stopped" ? [NUMBERS[:PUSH_LOG_INFO]] : LEVELS
    check(wanted.include?(line.level) && line.time_ms > 0, text)
    lines << text
  end
  status
end
# The log, when its descriptor is readable: as a host does in its loop.
watched = IO.for_fd(Push.push_log_line_fd(server), autoclose: false)
check(IO.select([watched], nil, nil, 120), "the descriptor is readable")
check(take.call == NUMBERS[:PUSH_ERR_TIMEOUT], "no more lines yet")
check(lines.include?("listening on #{address}"), lines)
check(!IO.select([watched], nil, nil, 0), "the descriptor is not readable any more")

check(Push.push_stop(server, 0) == NUMBERS[:PUSH_OK], "stopped")
check(Push.push_publish(server, "news", "x", 1) == NUMBERS[:PUSH_ERR_CLOSED], "closed")
check(take.call == NUMBERS[:PUSH_ERR_CLOSED] && lines.last == "stopped", lines)
Push.push_log_line_clear(line)
puts "ok"
