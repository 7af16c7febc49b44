//go:build cgo

package push

// Begin begins the stream of a channel, or begins it anew: what the channel had before is no longer in its history, and
// subscribers get `begin`. A client that asks for the channel from its start then gets everything since, and is told of
// a gap only if a part of that is no longer kept.
//
// Errors: [ErrInvalid], also if the channel keeps no messages, so that a client that comes later could not be told;
// [ErrUnsupported], if the hub of an attached server is of a version that does not know streams; and those of
// [Server.PublishMessage].
func (s *Server) Begin(channel string) (Position, error) { return s.mark("begin", channel, false) }

// End ends the stream of a channel: subscribers get `end` behind the messages that were published before, and so do
// clients that come later, as long as it is kept, like a message. An EventSource whose channels have all ended does not
// come back. A message that is published to the channel, or [Server.Begin], opens it anew. To end a stream that has ended
// changes nothing.
//
// Errors: those of [Server.Begin].
func (s *Server) End(channel string) (Position, error) { return s.mark("end", channel, true) }

func (s *Server) mark(op, channel string, end bool) (Position, error) {
	if !fitsName(channel) {
		return "", checkName(op, "channel", channel)
	}
	if !beginWait() {
		return "", result(op, ErrBusy)
	}
	var at position
	status := s.handle.mark(channel, end, &at)
	endWait()
	if status != statusOK {
		return "", result(op, status)
	}
	return Position(positionText(&at)), nil
}
