//go:build cgo

package push

import (
	"net"
	"sync/atomic"
	"time"
)

// relayPair is our end of a socket pair that stands for a client whose bytes go through Go.
type relayPair struct {
	conn  *net.UnixConn
	away  atomic.Bool // the client was sent away
	ended atomic.Bool // the library has ended its side
}

// relay hands over one end of a pair, and keeps the other until [Server.relayed].
func (s *Server) relay(head []byte, grant *Grant) (*relayPair, error) {
	conn, err := s.adoptPair(head, grant)
	if err != nil {
		return nil, err
	}
	pair := &relayPair{conn: conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.relays == nil {
		s.relays = map[*relayPair]struct{}{}
	}
	s.relays[pair] = struct{}{}
	return pair, nil
}

// relayed ends it.
func (s *Server) relayed(pair *relayPair) {
	pair.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.relays, pair)
}

// Write passes on what a client sends. Once it is sent away, nobody reads that any more.
func (p *relayPair) Write(bytes []byte) (int, error) {
	n, err := p.conn.Write(bytes)
	if err != nil && p.away.Load() {
		return len(bytes), nil
	}
	return n, err
}

// Close ends the pair in both directions: the client has gone.
func (p *relayPair) Close() {
	p.conn.Close()
}

// sendAway has the library tell the client to come back later. The library learns of it by the end of our sending side.
func (p *relayPair) sendAway() {
	p.away.Store(true)
	_ = p.conn.CloseWrite()
}

const (
	// relayStep is how often to look whether the relayed clients have gone.
	relayStep = 5 * time.Millisecond
	// relayPace is the longest time between two clients that are sent away, as in a drain of the library.
	relayPace = 50 * time.Millisecond
)

// sendRelaysAway sends the relayed clients that are left away evenly over the time, and returns when they have gone or
// the time is over. The last quarter of it, but no more than half a second, is for those told last.
func (s *Server) sendRelaysAway(over time.Duration) {
	began := time.Now()
	waiting := s.relaysLeft()
	over = max(0, over)
	spread := min(over-min(over/4, 500*time.Millisecond), time.Duration(len(waiting))*relayPace)
	for told, pair := range waiting {
		// The first goes at once. A drain of no time tells all at once.
		time.Sleep(time.Until(began.Add(spread * time.Duration(told) / time.Duration(len(waiting)))))
		pair.sendAway()
	}
	for time.Since(began) < over && len(s.relaysLeft()) > 0 {
		time.Sleep(relayStep)
	}
}

func (s *Server) relaysLeft() []*relayPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := make([]*relayPair, 0, len(s.relays))
	for pair := range s.relays {
		if !pair.ended.Load() {
			left = append(left, pair)
		}
	}
	return left
}
