<?php
// A host in PHP: php -d ffi.enable=1 cdef.php push.cdef.h libpush.so
[, $header, $library] = $argv;
$push = FFI::cdef(file_get_contents($header), $library);

function check(bool $holds, string $what): void
{
    if (!$holds) {
        fwrite(STDERR, "not so: $what\n");
        exit(1);
    }
}

$err = $push->new('char[256]');
$config = $push->push_config_new();
check($push->push_config_set($config, 'colour', 'blue', $err, 256) === $push->PUSH_ERR_CONFIG, 'an unknown option');
check(str_contains(FFI::string($err), 'colour'), 'the error names it');
check($push->push_config_set($config, 'listen', '127.0.0.1:0', $err, 256) === $push->PUSH_OK, FFI::string($err));
check($push->push_config_set($config, 'log', 'pull', $err, 256) === $push->PUSH_OK, FFI::string($err));
$server = $push->new('push_server *');
check($push->push_start($config, FFI::addr($server), $err, 256) === $push->PUSH_OK, FFI::string($err));
$push->push_config_free($config);

$message = $push->new('push_message');
$message->size = FFI::sizeof($message);
$channel = $push->new('char[5]');
FFI::memcpy($channel, "news\0", 5);
$data = $push->new('char[5]');
FFI::memcpy($data, 'hello', 5);
$message->channel = FFI::addr($channel[0]);
$message->data = FFI::addr($data[0]);
$message->len = 5;
$position = $push->new('push_position');
check($push->push_publish_message($server, FFI::addr($message), FFI::addr($position)) === $push->PUSH_OK, 'published');
check($position->seq === 1 && str_ends_with(FFI::string($position->text), '-1'), 'at the first position');

$address = $push->new('char[128]');
check($push->push_listen_address($server, 0, $address, 128) === $push->PUSH_OK, 'it listens');
$answer = file_get_contents('http://' . FFI::string($address) . '/push?channel=news&last=1');
check(json_decode($answer)->messages[0]->data === 'hello', $answer);

$stats = $push->new('push_stats');
check($push->push_stats_get($server, FFI::addr($stats), FFI::sizeof($stats)) === $push->PUSH_OK, 'stats');
check($stats->published === 1, 'one was published');
check($push->push_stop($server, 0) === $push->PUSH_OK, 'stopped');
check($push->push_publish($server, 'news', 'x', 1) === $push->PUSH_ERR_CLOSED, 'closed');

// The log, pulled at the end: the lines have waited.
$lines = [];
$line = $push->new('push_log_line');
$line->size = FFI::sizeof($line);
while (($status = $push->push_next_log($server, FFI::addr($line), FFI::sizeof($line), -1)) === $push->PUSH_OK) {
    $lines[] = FFI::string($line->text);
}
check($status === $push->PUSH_ERR_CLOSED, 'the end of the log');
check(str_contains(implode("\n", $lines), 'listening on ') && end($lines) === 'stopped', implode("\n", $lines));
$push->push_log_line_clear(FFI::addr($line));
echo "ok\n";
