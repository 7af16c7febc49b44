module libpush.bench/peers

go 1.24

require github.com/olahol/melody v1.2.1

require github.com/gorilla/websocket v1.5.3 // indirect
