// Package listen is the end of every example's main: it serves, and prints the address.
package listen

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
)

var address = flag.String("listen", "127.0.0.1:8080", "where to listen")

// AndServe serves until the program is ended.
func AndServe(handler http.Handler) {
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	log.Fatal(http.Serve(listener, handler))
}
