"""One remote peer of a room: negotiation, recovery, candidates. See `metered_proto.rtc.peer`."""
